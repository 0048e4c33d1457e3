"""The cost of lists, look-ups and revocations as the number of rows, accounts and workers grows."""
