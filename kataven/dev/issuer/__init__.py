"""A small OpenID provider for local runs and tests: discovery, keys, authorization code with PKCE, refresh, sign-out.

Its claims and paths are those of Zitadel. Run it with `python -m kataven.dev.issuer`.
"""

from kataven.dev.issuer.server import DevIssuer
from kataven.dev.issuer.tokens import AUDIENCE, CLIENT_ID, sign

__all__ = ["AUDIENCE", "CLIENT_ID", "DevIssuer", "sign"]
