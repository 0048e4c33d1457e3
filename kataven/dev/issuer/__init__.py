"""A real, small OpenID provider for local runs and tests: discovery, keys, authorization code with PKCE, sign-out.

It speaks as Zitadel does, claims and paths included. Run it with `python -m kataven.dev.issuer`.
"""

from kataven.dev.issuer.server import DevIssuer
from kataven.dev.issuer.tokens import AUDIENCE, CLIENT_ID, sign

__all__ = ["AUDIENCE", "CLIENT_ID", "DevIssuer", "sign"]
