"""`create_api`, `create_hub` and `create_app` of a checkout. The composition root is `kataven.application`."""

from kataven.application import API_BLUEPRINTS, build_services, create_api, create_app, create_hub

__all__ = ["API_BLUEPRINTS", "build_services", "create_api", "create_app", "create_hub"]
