"""For development only: real servers from wheels, an OIDC issuer, seeded accounts, and `make run`, which joins them."""
