"""Inside ONE account's database: its tables, and the verbs on them. No other account can be named here."""
