"""Which database: one account, one database, at a thousand accounts.

Standard library, SQLAlchemy, psycopg2 and Alembic only; what an account *is* comes in as a `Tenant`.
"""
