"""A demonstration of the widget: a customer's web site on another origin than the API, with its own server."""
