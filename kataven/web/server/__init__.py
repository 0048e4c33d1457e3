"""The front socket: gunicorn's worker, with a deadline for everything that a client sends or is sent."""
