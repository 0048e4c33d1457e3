"""API keys: the list, and pages to create, restrict, rotate, pause and revoke keys. One module per page.

A secret is shown once, in the response to the form that created it.
"""

from kataven.hub.pages.api_keys import bulk, create, edit, key_list, key_page, pause, revoke, rotate, scopes
from kataven.hub.pages.api_keys.blueprint import blueprint

__all__ = ["blueprint", "bulk", "create", "edit", "key_list", "key_page", "pause", "revoke", "rotate", "scopes"]
