"""The system database: which accounts there are, where each one's database is, and what operators did."""
