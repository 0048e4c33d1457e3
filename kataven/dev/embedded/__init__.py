"""Real PostgreSQL and Redis servers from wheels, on private Unix sockets. Imports nothing else of the project."""
