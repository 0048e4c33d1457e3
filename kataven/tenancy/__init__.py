"""One account, one database: sessions, provisioning and migrations for thousands of accounts.

Depends only on the standard library, SQLAlchemy, psycopg2 and Alembic. Callers pass an account as a `Tenant`.
"""
