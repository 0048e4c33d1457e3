"""What a thousand databases cost, next to doing the same the plain way in the same run."""
