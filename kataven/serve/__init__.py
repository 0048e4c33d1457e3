"""Serves the product under gunicorn: the WSGI objects, gunicorn's configuration, and `python -m kataven.serve`."""
