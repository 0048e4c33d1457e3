"""Authentication: turns a credential into a principal. Independent of Flask, SQLAlchemy, Redis and gRPC."""
