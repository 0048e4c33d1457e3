"""The pages of an account: one module for each place in the menu."""
