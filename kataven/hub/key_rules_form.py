"""The fields of forms that set what an API key may do, from where, since when and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from flask import request
from pydantic import BeforeValidator, Field

from kataven.account.api_keys import KeyRules
from kataven.account.models import ApiKey
from kataven.hub.edits import CHECKBOX, FieldLabel
from kataven.hub.page_blueprint import LABEL, read_form
from kataven.identity import scopes
from kataven.identity.conditions import AddressRules
from kataven.identity.scopes import KnownScopes
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, Limits
from kataven.web.inputs.api_keys import KeyLimitsInput, Networks, checked_limits
from kataven.web.inputs.times import time_in_range
from kataven.web.problems import InvalidRequest
from kataven.web.schema import Input, with_fields

SCOPE_FIELD = "scope."
"""Before a scope in the name of its checkbox. A name each, because forms are kept as one value per name."""
LIMIT_NAMES = tuple(limit.field for limit in LIMIT_FIELDS)


class KeyAccess(StrEnum):
    """The choices for the scopes of a new key."""

    FULL = "full"
    READ_ONLY = "read"
    CUSTOM = "custom"


ACCESS_CHOICES = (
    (KeyAccess.FULL, "Full access, except managing keys"),
    (KeyAccess.READ_ONLY, "Read only"),
    (KeyAccess.CUSTOM, "Custom: the scopes chosen below"),
)


def _time(given: object) -> object:
    """A time in UTC, as `datetime-local` fields send it. Empty: none."""
    text = given.strip() if isinstance(given, str) else given
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError("must be a date and a time in UTC, such as 2027-01-31T12:00") from None
    return time_in_range(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)


def _number(given: object) -> object:
    return (given.strip().replace(",", "") or None) if isinstance(given, str) else given


LimitField = Annotated[Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None, BeforeValidator(_number), Field(default=None)]


@with_fields(LIMIT_NAMES, LimitField)
class KeyRulesForm(Input):
    """Conditions and limits of a key."""

    allowed_addresses: Networks
    denied_addresses: Networks
    from_browsers: bool
    not_before: Annotated[datetime | None, BeforeValidator(_time)] = None


@dataclass(frozen=True, slots=True)
class SubmittedRules:
    """What a form sets. `scopes` is None for full access."""

    scopes: tuple[str, ...] | None
    form: KeyRulesForm
    limits: Mapping[str, int]

    @property
    def rules(self) -> KeyRules:
        return KeyRules(self.scopes, **self.conditions)

    @property
    def conditions(self) -> dict[str, Any]:
        """The fields of `KeyRules` except the scopes."""
        return {
            "allowed_addresses": tuple(self.form.allowed_addresses),
            "denied_addresses": tuple(self.form.denied_addresses),
            "from_browsers": self.form.from_browsers,
            "not_before": self.form.not_before,
        }

    def conditions_for(self, key: ApiKey) -> dict[str, Any]:
        """The conditions to save. A time that was not edited keeps its seconds, which the field does not show."""
        saved = KeyRules.of(key).not_before
        is_same = _local(saved) == _local(self.form.not_before)
        return {**self.conditions, "not_before": saved if is_same else self.form.not_before}


def read_rules(account: Limits, known: KnownScopes | None) -> tuple[SubmittedRules | None, dict[str, str]]:
    """The submitted fields, or the messages by field. `known` are the scopes to choose from; None: not in the form."""
    form, problems = read_form(
        KeyRulesForm,
        allowed_addresses=_lines("allowed_addresses"),
        denied_addresses=_lines("denied_addresses"),
        from_browsers="from_browsers" in request.form,
    )
    chosen = None
    if known is not None:
        try:
            chosen = _chosen_scopes(known)
        except ValueError as error:
            problems["access"] = str(error)
    if form is None:
        return None, problems
    given = KeyLimitsInput(**{name: getattr(form, name) for name in LIMIT_NAMES})
    try:
        limits = checked_limits(given, account)
    except InvalidRequest as error:
        for found in error.errors:
            field = found.field.removeprefix("limits.")
            problems[LIMIT_NAMES[0] if field == "limits" else field] = f"{LABEL} {found.message}"
        return None, problems
    return (None, problems) if problems else (SubmittedRules(chosen, form, limits), {})


def excludes(conditions: KeyRules | KeyRulesForm, address: str) -> bool:
    """Whether a key with these conditions is rejected from `address`."""
    rules = AddressRules.of(conditions.allowed_addresses, conditions.denied_addresses)
    return rules is not None and not rules.permits(address)


def exclusion_note(address: str) -> str:
    """What a page says after a key was saved that is rejected from the address of the page's visitor."""
    return f" Requests from your own address, {address}, are rejected."


def saved_fields(key: ApiKey) -> dict[str, Any]:
    """The values of the fields, as the forms name them."""
    rules, limits = KeyRules.of(key), key.limits or {}
    return {
        "allowed_addresses": rules.allowed_addresses,
        "denied_addresses": rules.denied_addresses,
        "from_browsers": rules.from_browsers,
        "not_before": _local(rules.not_before),
        **{name: limits.get(name) for name in LIMIT_NAMES},
    }


def sent_fields(submitted: SubmittedRules) -> dict[str, Any]:
    """The same of a submitted form."""
    limits = {name: submitted.limits.get(name) for name in LIMIT_NAMES}
    return {**submitted.conditions, "not_before": _local(submitted.form.not_before), **limits}


def _limit_label(words: str) -> str:
    return f"Requests {words}" if words.startswith("per") else f"{words.capitalize()} requests"


LABELS = {
    "allowed_addresses": FieldLabel("Allowed addresses"),
    "denied_addresses": FieldLabel("Denied addresses"),
    "from_browsers": FieldLabel("Browsers may send this key", CHECKBOX),
    "not_before": FieldLabel("Not valid before (UTC)"),
    **{limit.field: FieldLabel(_limit_label(limit.words)) for limit in LIMIT_FIELDS},
}


def _chosen_scopes(known: KnownScopes) -> tuple[str, ...] | None:
    """Raises ValueError; the message is written for users."""
    access = request.form.get("access", KeyAccess.FULL)
    if access == KeyAccess.FULL:
        return None
    if access == KeyAccess.READ_ONLY:
        return known.read_only()
    if access != KeyAccess.CUSTOM:
        raise ValueError("Choose an access from the list")
    chosen = [name for name in known if SCOPE_FIELD + name in request.form]
    if not chosen:
        raise ValueError("Choose at least one scope, or full access")
    return scopes.normalized(chosen, known)


def _lines(name: str) -> list[str]:
    return [line.strip() for line in request.form.get(name, "").splitlines() if line.strip()]


def _local(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
