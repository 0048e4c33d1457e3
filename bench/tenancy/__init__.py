"""The cost of a thousand databases, compared with plain implementations in the same run."""
