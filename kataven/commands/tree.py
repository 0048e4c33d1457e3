"""The tree of commands. Importing this module imports only click: see `groups`."""

from __future__ import annotations

from kataven.commands.groups import LazyCommand

COMMANDS = {
    name: LazyCommand(f"kataven.commands.{module}", attribute, short_help)
    for name, module, attribute, short_help in (
        ("accounts", "all_accounts", "group", "Manage accounts and their databases."),
        ("completion", "completion", "command", "Print the script that completes commands in a shell."),
        ("doctor", "doctor", "command", "Check the installation, and print what to change."),
        ("events", "events", "group", "Receive security events of the identity provider."),
        ("keys", "keys", "group", "Create, list, rotate, pause and revoke the API keys of accounts."),
        ("limits", "limits", "group", "Show and change the rate limits of accounts and keys."),
        ("migrations", "migrations", "group", "Migrate the system database and the databases of accounts."),
        ("oidc", "oidc", "group", "Check the OpenID Connect issuer."),
        ("people", "people", "group", "End the sessions of users."),
        ("peppers", "peppers", "group", "Manage the peppers, the secrets that stored keys are hashed with."),
        ("revocation", "revocation", "group", "Measure revocation, list workers, flush their caches."),
        ("servers", "servers", "group", "Manage the PostgreSQL servers that accounts are placed on."),
        ("status", "status", "command", "Show the state of the installation on one screen."),
        ("widget", "widget", "group", "Show and create the keys that sign visitor tokens."),
    )
}
DEVELOPMENT = {"dev": LazyCommand("kataven.commands.dev", "group", "Tools for development.", hidden=True)}
"""Refused in production."""
