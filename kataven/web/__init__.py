"""The path of a request, shared by both surfaces: edge, credential, access, limits, handler, answer."""
