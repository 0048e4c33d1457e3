"""VISITORS: from a public key in a web page to a short-lived token that the voice edge verifies offline.

    allowlist        which pages a key serves; pure
    visitor_tokens   what a visitor's token says
    user_tokens      from a customer's server to a visitor's browser, once
    families         refresh tokens, each good once, and what became of their ancestors
    flows            the five ways in, and the order of their checks

The browser never holds a secret. What stands between a stranger's page and a token is the allowlist, which is matched
before anything is minted, every time.
"""
