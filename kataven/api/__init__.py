"""The HTTP API, one module per resource. Handlers read the input, call one function of `account` and shape the
output."""

from kataven.api import (
    accounts,
    agents,
    audit_events,
    key_usage,
    me,
    people,
    receipts,
    requests,
    usage,
    verify,
    widget,
    widget_keys,
    widget_script,
    widget_settings,
)

BLUEPRINTS = (
    agents.blueprint,
    key_usage.blueprint,
    widget_keys.blueprint,
    widget_settings.blueprint,
    me.blueprint,
    people.blueprint,
    verify.blueprint,
    audit_events.blueprint,
    usage.blueprint,
    requests.blueprint,
    receipts.blueprint,
    accounts.blueprint,
    widget.blueprint,
    widget_script.blueprint,
)
