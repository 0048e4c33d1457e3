"""A simulation of the design in `docs/regions.md`, and the cost of one region's Redis. See `__main__.py`."""
