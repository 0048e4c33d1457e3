"""What people and their programs may send, where the API and the Hub take the same."""
