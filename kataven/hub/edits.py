"""Optimistic concurrency for forms that write a whole object: a conflicting change is shown, never overwritten.

The form contains a digest of each field as the page showed it. The digests are compared with the row after it is
locked, as `If-Match` is at the API. An ETag of the whole object would show that it changed, but not which fields. With
one digest per field, a field that only one side changed keeps that change.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.page_blueprint import current_hub_request, page_of, render
from kataven.web.problems import FieldError, InvalidRequest

SEEN: Final = "seen"
"""The hidden field with the digests."""
CHOOSE: Final = "choose"
"""A hidden field on the conflict page. It names a field for which the user must choose one of two values."""
CODE: Final = "edit_conflict"

_DIGEST_BYTES = 9
_MAX_SEEN_LENGTH = 4_096
_BETWEEN, _WITHIN = ".", "~"
"""Neither is in a field's name or in base64url."""

Choices = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FieldLabel:
    """The label of a field, and the labels of its values if it has a list of choices."""

    label: str
    choices: Choices = ()

    def of_value(self, value: str) -> str:
        return dict(self.choices).get(value, value)


CHECKBOX: Final = (("on", "Yes"), ("", "No"))
"""The choices of a checkbox."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that was changed elsewhere after the form was opened, and for which the form has a different value."""

    name: str
    label: str
    saved: str
    sent: str
    saved_label: str
    sent_label: str
    chosen: str | None
    """`saved` if only the other side changed the field; None if both did."""


class EditConflict(Exception):
    """The form would overwrite changes that were saved after it was opened. Nothing was saved."""

    def __init__(self, edit: Edit, saved: Mapping[str, str], differences: Sequence[Difference]) -> None:
        super().__init__("Changed since the form was opened: " + ", ".join(one.name for one in differences))
        self.edit = edit
        self.saved = saved
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Edit:
    """The submitted values of a form, and the digests of the values that it was opened with."""

    sent: Mapping[str, str]
    labels: Mapping[str, FieldLabel]
    seen: Mapping[str, str] = field(repr=False)
    extra_fields: Mapping[str, str] = field(default_factory=dict)
    """Submitted fields that are not fields of the object."""

    def check(self, saved: Mapping[str, Any]) -> None:
        """Compare with the current, locked row. Raises EditConflict."""
        now = {name: as_text(saved[name]) for name in self.sent}
        found = [
            self._difference(name, text)
            for name, text in now.items()
            if text != self.sent[name] and self._is_new(name, text)
        ]
        if found:
            raise EditConflict(self, now, found)

    def _is_new(self, name: str, text: str) -> bool:
        return not hmac.compare_digest(self.seen.get(name, ""), _digest(name, text))

    def _difference(self, name: str, saved: str) -> Difference:
        sent, label = self.sent[name], self.labels.get(name, FieldLabel(name))
        untouched = name in self.seen and not self._is_new(name, sent)
        return Difference(
            name,
            label.label,
            saved,
            sent,
            label.of_value(saved),
            label.of_value(sent),
            saved if untouched else None,
        )


def install(app: Flask) -> None:
    """Show a page with both values for every conflict."""
    app.register_error_handler(EditConflict, _page)


def seen_of(values: Mapping[str, Any]) -> str:
    """The value of the hidden field for a form that shows these values."""
    return _BETWEEN.join(f"{name}{_WITHIN}{_digest(name, as_text(value))}" for name, value in values.items())


def read_edit(values: Mapping[str, Any], labels: Mapping[str, FieldLabel], *extra_fields: str) -> Edit:
    """The submitted form, with its validated `values`. `extra_fields` names fields that are not the object's.

    Raises InvalidRequest if a value on the conflict page was not chosen. Browsers don't send such a form.
    """
    chosen_from = request.form.getlist(CHOOSE)[: len(labels)]
    missing = [name for name in chosen_from if name in labels and name not in request.form]
    if missing:
        raise InvalidRequest([FieldError(name, "choose one of the two values") for name in missing])
    sent = {name: as_text(value) for name, value in values.items()}
    others = {name: request.form[name] for name in extra_fields if name in request.form}
    return Edit(sent, labels, _read_digests(request.form.get(SEEN, "")), others)


def as_text(value: Any) -> str:
    """A value as its form field sends it."""
    if value is None or value is False:
        return ""
    if value is True:
        return "on"
    if isinstance(value, (list, tuple)):
        return "\n".join(str(item) for item in value)
    return str(value)


def _digest(name: str, text: str) -> str:
    digest = hashlib.sha256(f"{name}\n{text}".encode()).digest()[:_DIGEST_BYTES]
    return base64.urlsafe_b64encode(digest).decode()


def _read_digests(text: str) -> dict[str, str]:
    """The digests by field. Empty if the text is too long or not ASCII."""
    if len(text) > _MAX_SEEN_LENGTH or not text.isascii():
        return {}
    parts = (part.partition(_WITHIN) for part in text.split(_BETWEEN))
    return {name: digest for name, within, digest in parts if within}


def _page(error: EditConflict) -> AnyResponse:
    current_hub_request().problem = CODE
    to_choose = {one.name for one in error.differences}
    other_fields = {**error.edit.sent, **error.edit.extra_fields}
    return render(
        "conflict.html",
        HTTPStatus.CONFLICT,
        action=request.path,
        page=page_of(request.path),
        differences=error.differences,
        other_fields=[(name, value) for name, value in other_fields.items() if name not in to_choose],
        seen=seen_of(error.saved),
    )
