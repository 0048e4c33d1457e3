"""Kataven Hub: the credential and tenancy layer, and the control plane that stands on it."""

__version__ = "0.1.0"
