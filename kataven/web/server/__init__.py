"""A gunicorn worker with a deadline for every read from and every write to a client."""
