"""The auth-service: a gRPC service that holds the peppers, and a client that implements Verifier and Issuer."""
