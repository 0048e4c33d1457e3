"""gunicorn's configuration of a checkout. `kataven.serve.gunicorn_conf` has the settings and their reasons.

gunicorn -c gunicorn.conf.py wsgi:api      the API
gunicorn -c gunicorn.conf.py wsgi:hub      the Hub, as a separate service
"""

from kataven.serve.gunicorn_conf import *  # noqa: F403
