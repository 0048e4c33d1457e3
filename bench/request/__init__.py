"""One request, next to what it would cost without us."""
