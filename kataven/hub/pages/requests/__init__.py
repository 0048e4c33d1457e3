"""Requests: the log of the account's latest requests, and a page that explains one of them."""

from kataven.hub.pages.requests import request_list, request_page
from kataven.hub.pages.requests.blueprint import blueprint

__all__ = ["blueprint", "request_list", "request_page"]
