"""A customer's web site with the widget on it: of another origin than the API, with a server that knows its users."""
