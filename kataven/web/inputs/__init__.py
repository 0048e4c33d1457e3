"""The request bodies that the API and the Hub share."""
