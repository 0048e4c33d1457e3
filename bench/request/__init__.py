"""The cost of one request, compared with baselines."""
