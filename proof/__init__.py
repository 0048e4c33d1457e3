"""Model checking the revocation protocol with SPIN. `python -m proof`, or `make prove`; see docs/proof.md."""
