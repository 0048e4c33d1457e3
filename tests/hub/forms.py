"""Parses the forms of a page, as a browser submits them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """One form: its action, and the values of its fields."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    """The values that are submitted without changes. Unchecked checkboxes and radio buttons submit nothing."""
    hidden: dict[str, str] = field(default_factory=dict)
    offered: dict[str, list[str]] = field(default_factory=dict)
    """The values of each group of radio buttons."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._area: str | None = None
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get"))
            self.forms.append(self._form)
        if self._form is None:
            return
        name = given.get("name", "")
        if tag == "input" and name:
            self._input(self._form, name, given)
        elif tag == "textarea":
            self._area, self._form.fields[name] = name, ""
        elif tag == "select":
            self._select = name
        elif (
            tag == "option"
            and self._select is not None
            and ("selected" in given or self._select not in self._form.fields)
        ):
            self._form.fields[self._select] = given.get("value", "")

    def _input(self, form: Form, name: str, given: dict[str, str]) -> None:
        kind = given.get("type", "text")
        if kind == "radio":
            form.offered.setdefault(name, []).append(given.get("value", ""))
        if kind not in {"checkbox", "radio"} or "checked" in given:
            form.fields[name] = given.get("value", "on" if kind == "checkbox" else "")
        if kind == "hidden":
            form.hidden[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "textarea" and self._form is not None and self._area is not None:
            # HTML parsers drop the first line break.
            self._form.fields[self._area] = self._form.fields[self._area].removeprefix("\n")
            self._area = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        if self._area is not None and self._form is not None:
            self._form.fields[self._area] += data


def forms_of(page: str) -> dict[str, Form]:
    """The POST forms of a page, by action."""
    reader = _Reader()
    reader.feed(page)
    return {form.action: form for form in reader.forms if form.method == "post"}
