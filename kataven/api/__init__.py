"""The HTTP API, one file per noun: read the input, call one verb, shape the output."""

from kataven.api import (
    accounts,
    agents,
    api_keys,
    audit_events,
    me,
    widget,
    widget_keys,
    widget_script,
    widget_settings,
)

ROOMS = (
    *(agents.room, api_keys.room, widget_keys.room, widget_settings.room, me.room, audit_events.room, accounts.room),
    *(widget.room, widget_script.room),
)
