"""The tables of one account's database and the operations on them. This package has no access to other accounts."""
