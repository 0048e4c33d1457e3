"""The HTTP API, one file per noun: read the input, call one verb, shape the output."""

from kataven.api import accounts, agents, api_keys, audit_events, me

ROOMS = (agents.room, api_keys.room, me.room, audit_events.room, accounts.room)
