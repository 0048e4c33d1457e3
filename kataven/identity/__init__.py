"""WHO is calling: credentials in, a principal out. Knows no Flask, SQLAlchemy, Redis or gRPC."""
