"""What attacks by unauthenticated clients cost a good key and the revocation receipts. See `__main__`."""
