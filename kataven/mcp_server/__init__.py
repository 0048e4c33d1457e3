"""Tools for a model, over the SDK: they manage one account of Kataven. Begin with `tools.py`."""
