"""The actions that operators carry out on accounts, shared by the command line and the console.

An operation combines the account package, the system database, revocation and rate limits in a fixed order. It writes
to the operator audit log and returns a receipt if it revokes anything. `commands` and `hub.console` parse the input,
call one operation and show its result.
"""
