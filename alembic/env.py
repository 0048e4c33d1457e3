"""Runs Alembic; see kataven/tenancy/alembic_env.py."""

from kataven.tenancy.alembic_env import migrate

migrate()
