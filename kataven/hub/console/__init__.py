"""The operator console. It requires the role `operator` in the organisation of `KATAVEN_OPERATORS_ORG_ID`."""
