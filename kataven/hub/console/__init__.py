"""The operators' console: for those of `kataven-admin`, and nobody else."""
