"""Runs the real code of the package with a simulated clock, network, Redis and scheduler."""
