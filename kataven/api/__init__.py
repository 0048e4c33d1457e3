"""The HTTP API, one module per resource. Handlers read the input, call one function of `account` and shape the
output."""

from kataven.api import (
    accounts,
    agents,
    api_keys,
    audit_events,
    me,
    people,
    verify,
    widget,
    widget_keys,
    widget_script,
    widget_settings,
)

BLUEPRINTS = (
    agents.blueprint,
    api_keys.blueprint,
    widget_keys.blueprint,
    widget_settings.blueprint,
    me.blueprint,
    people.blueprint,
    verify.blueprint,
    audit_events.blueprint,
    accounts.blueprint,
    widget.blueprint,
    widget_script.blueprint,
)
