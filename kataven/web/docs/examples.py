"""Example values for the fields of the OpenAPI document.

An example comes from the field's own `examples`, from its type (an enumeration, a UUID, a time), or from `VALUES`. A
field without an example is reported by its name: tests/web/test_reference_samples.py fails for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

ACCOUNT: Final = "acme"
ORIGIN: Final = "https://www.acme.com"
"""The page of the samples that web pages send."""
AN_ID: Final = "3f2b8a54-6c1d-4e0f-9a77-5d0c2f1e8b90"
AGENT_ID: Final = "0d9c4b5e-8a3f-4f6b-b1c2-7e6a5d4c3b21"
_SHORTENED: Final = "…"
"""Examples of secrets are shortened, so that none of them is a valid credential."""

VALUES: Final[Mapping[str, Any]] = {
    # Of one model or of those whose names contain it: `ApiKey.name` is for `ApiKeyInput` and `NewApiKey` as well.
    "Account.name": "Acme Inc.",
    "AccountValidity.reason": None,
    "Agent.id": AGENT_ID,
    "Agent.status": "active",
    "AgentWidgetSettings.auth_mode": "both",
    "ApiKey.name": "Billing server",
    "Branding.title": "Ask Acme",
    "ChangedApiKey.disabled_at": "2026-11-26T09:45:00Z",
    "ChangedApiKey.status": "revoked",
    "Credential.expires_at": None,
    "Credential.id": AN_ID,
    "Credential.name": "Billing server",
    "Me.role": None,
    "NewApiKey.last_used_at": None,
    "NewWidgetKey.key": f"pk_live_{ACCOUNT}_{_SHORTENED}",
    "OpenApiDocument.info": {"title": "Kataven Hub API", "version": "0.1.0"},
    "OpenApiDocument.openapi": "3.1.0",
    "Readiness.checks": None,
    "Verified.role": None,
    "Receipt.lapsed": None,
    "Receipt.redis": None,
    "WidgetConfig.voice_url": None,
    "WidgetKey.name": "acme.com",
    "ApiKeyBulkInput.action": "pause",
    "ExplainedRequest.status": 403,
    "FormerSecretPatch.ends_in_seconds": 0,
    "LoggedRequest.status": 403,
    "UsageLoss.requests": 0,
    "ApiKeyUsage.calls": {"ok": 1180, "invalid": 3, "refused": 9, "limited": 12, "failed": 0},
    "AddressCalls.calls": 1204,
    "RouteCalls.calls": 1204,
    "Usage.calls": 1204,
    "UsageLine.calls": 1204,
    "UsageLoss.calls": 0,
    "UsagePoint.calls": 51,
    # Of every model.
    "accent_color": "#1746a2",
    "account": ACCOUNT,
    "account_name": "Acme Inc.",
    "acknowledged": 4,
    "action": "agent.created",
    "actor": "jwt:alice",
    "actor_name": "Alice",
    "address": "203.0.113.7",
    "agent_id": AGENT_ID,
    "allowed_addresses": ["203.0.113.0/24"],
    "average_ms": 3.1,
    "background_audio_volume": 0.5,
    "caller_name": "CI",
    "calls_last_day": 1204,
    "calls_last_hour": 51,
    "client_key": f"pk_live_{ACCOUNT}_{_SHORTENED}",
    "code": "revoked_credential",
    "created_by": "jwt:alice",
    "denied_addresses": ["203.0.113.66"],
    "description": "Answers calls outside office hours.",
    "detail": {"name": "Front desk"},
    "disabled": False,
    "disabled_at": None,
    "display_name": "Una",
    "domain_allowlist": ["www.acme.com"],
    "email": "una@example.com",
    "expires_in": 300,
    "expiry": "90d",
    "explanation": "The API key was revoked. A revoked key can't be restored. Create a new one.",
    "external_user_id": "user-1",
    "failed": 0,
    "forgotten_ms": 2.4,
    "grace_seconds": 86400,
    "greeting_message": "Hello, how can I help?",
    "greeting_mode": "interruptible",
    "group": "2026-11-26T09:00:00Z",
    "heard_ms": 1.9,
    "hint": "1C4MhMqU",
    "invalid": 3,
    "key": f"sk_live_{ACCOUNT}_{_SHORTENED}",
    "key_id": AN_ID,
    "kid": "2026-11",
    "last_late_address": "203.0.113.7",
    "late_uses": 0,
    "launcher_label": "Chat",
    "left": 599,
    "limit": 600,
    "limited": 12,
    "limits": None,
    "llm_model": "gpt-4o",
    "logo_url": "https://acme.com/logo.svg",
    "milliseconds": 3.1,
    "ms": 2.5,
    "name": "Front desk",
    "number": 3,
    "ok": 1180,
    "principal": f"api_key:{AN_ID}",
    "quota": "per-minute",
    "reason": "The laptop was stolen.",
    "refresh_token": f"rt_{_SHORTENED}",
    "refused": 9,
    "refused_calls": 9,
    "remaining": 599,
    "request": "8c1f3a5e9b7d42f0a6c4e2d8b0f91735",
    "request_id": "8c1f3a5e9b7d42f0a6c4e2d8b0f91735",
    "resets_in": 42,
    "route": "/v1/agents",
    "scopes": ["agents:read"],
    "snippet": f'<script src="https://api.kataven.ai/widget.js" data-client-key="pk_live_{ACCOUNT}_…"></script>',
    "system_prompt": "You are the receptionist of Acme Inc.",
    "target": AN_ID,
    "target_name": "CI",
    "title": "Ask Acme",
    "user_agent": "python-httpx",
    "user_token": f"ut_{_SHORTENED}",
    "visitor_token": f"eyJ{_SHORTENED}",
    "voice_id": "nova",
    "voice_url": None,
    "widget_enabled": True,
    "worker": "web-1:4711",
    "workers": 4,
    "x": _SHORTENED,
    "y": _SHORTENED,
}
"""Example values by the name of the field. Secrets end with `…`."""

_TIMES: Final = {
    "created_at": "2026-11-26T09:00:00Z",
    "updated_at": "2026-11-26T09:30:00Z",
    "last_used_at": "2026-11-26T09:41:07Z",
}
_A_TIME: Final = "2027-02-24T09:00:00Z"
_MAX_OPTIONAL: Final = 2
"""The number of optional fields in the example of a request's body."""
_REFERENCE: Final = "#/components/schemas/"


@dataclass(frozen=True)
class Examples:
    """Generates examples of the schemas of one document."""

    schemas: Mapping[str, Json]
    missing: set[str] = field(default_factory=set)
    """The fields without an example that were requested so far, as `Model.field`."""

    def response(self, schema: Json) -> Any:
        """An example of a response's body, with all fields."""
        return self._value(schema, "", "")

    def body(self, schema: Json) -> Any:
        """An example of a request's body: the required fields and some of the optional ones."""
        model = model_name(schema)
        if model is None:
            return self._value(schema, "", "")
        properties = self.schemas[model].get("properties", {})
        return {name: self._value(properties[name], model, name) for name in _selected(self.schemas[model])}

    def parameter(self, parameter: Json) -> Any:
        """An example of a parameter."""
        return 20 if parameter["name"] == "limit" else self._value(parameter["schema"], "", parameter["name"])

    def _value(self, schema: Json, model: str, name: str, within: tuple[str, ...] = ()) -> Any:
        """`within`: the models around this value, so that a model that contains itself has a finite example."""
        found: Any
        for found in schema.get("examples", []):
            return found
        if "const" in schema:
            return schema["const"]
        known, found = _known(model, name)
        if known and (found is not None or _is_nullable(schema)):
            return found
        reference = model_name(schema)
        if reference is not None:
            if reference in within:
                return {}
            target = self.schemas[reference]
            return self._value(target, reference, name if "enum" in target else "", (*within, reference))
        if "anyOf" in schema:
            choice = next((one for one in schema["anyOf"] if one.get("type") != "null"), {"const": None})
            return self._value(choice, model, name, within)
        if "enum" in schema:
            return schema.get("x-default", schema["enum"][0])
        return self._of_type(schema, model, name, within)

    def _of_type(self, schema: Json, model: str, name: str, within: tuple[str, ...]) -> Any:
        kind = schema.get("type")
        if kind == "object":
            return {one: self._value(value, model, one, within) for one, value in schema.get("properties", {}).items()}
        if kind == "array":
            return [self._value(schema["items"], model, name, within)] if "items" in schema else []
        if kind == "boolean":
            return schema.get("x-default", False)
        if schema.get("format") == "uuid":
            return AN_ID
        if schema.get("format") == "date-time":
            return _TIMES.get(name, _A_TIME)
        if "x-default" in schema or "default" in schema:
            return schema.get("x-default", schema.get("default"))
        self.missing.add(f"{model}.{name}" if model else name)
        return "…"


def model_name(schema: Json) -> str | None:
    """The model that a schema refers to, or None."""
    reference: str | None = schema.get("$ref")
    return None if reference is None else reference.removeprefix(_REFERENCE)


def is_shortened(value: object) -> bool:
    """Whether an example is a shortened secret instead of a real value."""
    return isinstance(value, str) and value.endswith(_SHORTENED)


def _is_nullable(schema: Json) -> bool:
    return any(one.get("type") == "null" for one in schema.get("anyOf", []))


def _known(model: str, name: str) -> tuple[bool, Any]:
    """Whether `VALUES` has the field, and its value. The longest name of a model takes precedence."""
    of_model = [key for key in VALUES if "." in key and _applies(key, model, name)]
    key = max(of_model, key=len, default=name)
    return key in VALUES, VALUES.get(key)


def _applies(key: str, model: str, name: str) -> bool:
    of_model, _, of_field = key.partition(".")
    return of_field == name and re.search(rf"{of_model}(?![a-z])", model) is not None


def _selected(schema: Json) -> Iterator[str]:
    """The fields in the example of a body. Described fields are the more interesting ones."""
    writable = {name: value for name, value in schema.get("properties", {}).items() if not value.get("readOnly")}
    required = set(schema.get("required", []))
    optional = sorted(
        set(writable) - required, key=lambda name: ("description" not in writable[name], [*writable].index(name))
    )
    chosen = required | set(optional[:_MAX_OPTIONAL])
    yield from (name for name in writable if name in chosen)
