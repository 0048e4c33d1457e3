"""A form that writes a whole object: what changed since it was opened is shown, and never overwritten unseen.

The form carries a digest of each field as the page showed it. They are compared with the row once it is locked, as
`If-Match` is at the API. One tag for the whole object would say that it changed, but not which fields: with a digest
for each, a field that only one side changed keeps that change.
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
"""Hidden on the page of a conflict: a field for which one of two values has to be chosen."""
CODE: Final = "edit_conflict"

_DIGEST_BYTES = 9
_MAX_SEEN_LENGTH = 4_096
_BETWEEN, _WITHIN = ".", "~"
"""Neither is in a field's name or in base64url."""

Choices = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FieldLabel:
    """How a page calls a field, and its values if they are from a list."""

    label: str
    choices: Choices = ()

    def of(self, text: str) -> str:
        return dict(self.choices).get(text, text)


CHECKBOX: Final = (("on", "Yes"), ("", "No"))
"""The choices of a field that is a box to tick."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that was changed elsewhere since the form was opened, and in which the form says something else."""

    name: str
    label: str
    saved: str
    sent: str
    saved_label: str
    sent_label: str
    chosen: str | None
    """`saved` if only the other side changed it; None if both did."""


class EditConflict(Exception):
    """What the form would overwrite was changed since the form was opened. Nothing was done."""

    def __init__(self, edit: Edit, saved: Mapping[str, str], differences: Sequence[Difference]) -> None:
        super().__init__("Changed since the form was opened: " + ", ".join(one.name for one in differences))
        self.edit = edit
        self.saved = saved
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Edit:
    """What a form sent, and what it was opened with."""

    sent: Mapping[str, str]
    words: Mapping[str, FieldLabel]
    seen: Mapping[str, str] = field(repr=False)
    extra_fields: Mapping[str, str] = field(default_factory=dict)
    """What the form says beside the object's fields."""

    def check(self, saved: Mapping[str, Any]) -> None:
        """Compare with the row as it is now, once it is locked. Raises EditConflict."""
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
        sent, words = self.sent[name], self.words.get(name, FieldLabel(name))
        untouched = name in self.seen and not self._is_new(name, sent)
        return Difference(name, words.label, saved, sent, words.of(saved), words.of(sent), saved if untouched else None)


def install(app: Flask) -> None:
    """Answer every conflict with a page to choose on."""
    app.register_error_handler(EditConflict, _page)


def seen_of(values: Mapping[str, Any]) -> str:
    """The content of the hidden field, for a form that shows these values."""
    return _BETWEEN.join(f"{name}{_WITHIN}{_digest(name, as_text(value))}" for name, value in values.items())


def read_edit(values: Mapping[str, Any], words: Mapping[str, FieldLabel], *extra_fields: str) -> Edit:
    """The form of this request, whose validated content is `values`; `beside` are more fields that it may have.

    Raises InvalidRequest for a page of a conflict on which something was not chosen: a browser sends none.
    """
    open_ = [name for name in request.form.getlist(CHOOSE)[: len(words)] if name in words and name not in request.form]
    if open_:
        raise InvalidRequest([FieldError(name, "choose one of the two values") for name in open_])
    sent = {name: as_text(value) for name, value in values.items()}
    others = {name: request.form[name] for name in extra_fields if name in request.form}
    return Edit(sent, words, _read(request.form.get(SEEN, "")), others)


def as_text(value: Any) -> str:
    """A value as its form sends it."""
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


def _read(text: str) -> dict[str, str]:
    """The digests by field; none of a text that is too long or not ASCII."""
    if len(text) > _MAX_SEEN_LENGTH or not text.isascii():
        return {}
    parts = (part.partition(_WITHIN) for part in text.split(_BETWEEN))
    return {name: digest for name, within, digest in parts if within}


def _page(error: EditConflict) -> AnyResponse:
    current_hub_request().problem = CODE
    to_choose = {one.name for one in error.differences}
    along = {**error.edit.sent, **error.edit.extra_fields}
    return render(
        "conflict.html",
        HTTPStatus.CONFLICT,
        action=request.path,
        page=page_of(request.path),
        differences=error.differences,
        along=[(name, value) for name, value in along.items() if name not in to_choose],
        seen=seen_of(error.saved),
    )
