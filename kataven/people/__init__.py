"""Users of the identity provider as revocation targets: end their sessions, block them, and receive the events of the
issuer that require it."""
