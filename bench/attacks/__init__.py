"""Measures the effect of attacks by unauthenticated clients on valid keys and revocation receipts. See `__main__`."""
