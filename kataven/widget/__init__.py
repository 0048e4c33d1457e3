"""Visitors of the widget: from a widget key in a web page to a short-lived token that the voice edge verifies offline.

    allowlist        the pages that a widget key serves; a pure module
    key_guard        the checks of a widget key, its page and its agent
    visitor_tokens   the claims of a visitor token
    user_tokens      single-use tokens, passed from a customer's server to the user's browser
    families         refresh tokens: each is valid once, and reuse ends the visitor session
    flows            the five operations, and the order of their checks

The browser holds no secret. The allowlist is checked on every request, before any token is issued.
"""
