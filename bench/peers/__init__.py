"""The product's request, compared with the same request of other systems."""
