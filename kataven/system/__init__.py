"""The system database: the accounts, the servers of their databases, and the operator audit log."""
