"""Builds the distributions `kataven` and `kataven-hub`, and tests them in clean environments."""
