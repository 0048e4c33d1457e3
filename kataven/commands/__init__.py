"""The commands of operators: parse arguments, run operations, print. `kataven` and `flask` run the same commands."""
