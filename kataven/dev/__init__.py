"""The development environment: real servers from wheels, an OIDC issuer, sample accounts, and `make run`."""
