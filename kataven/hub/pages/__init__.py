"""The pages of an account: one module or package per navigation entry."""
