"""Identity behind a wire: a service that alone holds the peppers, and a client that is one more Verifier."""
