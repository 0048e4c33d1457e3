"""Declaring a page: who may see it, and the forms that it takes. What declares nothing is refused to everybody."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, TypeVar
from uuid import UUID

from flask import Blueprint, Response, current_app, g, redirect, render_template, request
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response as AnyResponse

from kataven import validation
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.hub.sessions import Session
from kataven.identity.principal import Role
from kataven.web.access import MANAGE, READ, Access
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, read_id

Handler = TypeVar("Handler", bound=Callable[..., AnyResponse])
Form = TypeVar("Form", bound=Input)
RefillForm = Callable[..., AnyResponse]
"""Shows the page of a form with what was typed in it, a mapping; it does nothing else. The parts of the path follow."""


@dataclass(frozen=True, slots=True)
class PageAccess:
    """Who may see a page."""

    anonymous: bool = False
    """Without signing in."""
    operators: bool = False
    """Operators, and nobody else."""
    account_access: Access | None = None
    """Whoever has this access to the account that they are in."""


ANONYMOUS = PageAccess(anonymous=True)
SIGNED_IN = PageAccess()
"""Anybody who has signed in, whatever they may do and wherever."""
MEMBERS = PageAccess(account_access=READ)
MANAGERS = PageAccess(account_access=MANAGE)
OPERATORS = PageAccess(operators=True)


@dataclass(slots=True)
class HubRequest(RequestContext):
    """One request of a browser: a call that has a session."""

    session: Session = field(default_factory=lambda: Session("", "", 0))
    cookie: str | None = None
    """What the browser should hold from now on, if that is another secret than it sent; empty: nothing."""
    field_errors: list[tuple[str | None, str, str]] = field(default_factory=list)
    """What is wrong with the form on this page, as it is shown: the field's id, its label, and the problem."""
    page_notice: str | None = None
    """What this page has to say first."""
    operator: str | None = None
    """The operator's id at the issuer, on their own pages."""

    @property
    def actor(self) -> Actor:
        """The caller, with the name from the ID token: Zitadel's access tokens contain no name."""
        actor = super(HubRequest, self).actor  # `slots=True` replaces the class, so `super()` fails
        return actor if self.session.user is None else replace(actor, name=self.session.user.name)

    @property
    def operator_label(self) -> str:
        """The operator, as the trail names them."""
        return f"jwt:{self.operator}"

    @property
    def may_manage(self) -> bool:
        """Whether to offer what only owners and admins may do. The gate decides again when it is asked for."""
        return self.admitted is not None and self.admitted.principal.role in {Role.OWNER, Role.ADMIN}


class PageBlueprint(Blueprint):
    """A blueprint of pages. Handlers take the visit and the parts of the path; those named `…_id` arrive as UUIDs."""

    def __init__(self, name: str, import_name: str, noun: str = "page") -> None:
        super().__init__(name, import_name)
        self.noun = noun

    def page(self, path: str, access: PageAccess) -> Callable[[Handler], Handler]:
        """A page to look at."""
        return self._register("GET", path, access, None)

    def form(
        self, path: str, access: PageAccess, refill: RefillForm | None = None, *, while_typing: bool = False
    ) -> Callable[[Handler], Handler]:
        """A form that is sent; the gate has checked that it was one of this session's.

        `again` fills it in again when it came too late. Forms that something is typed into have one; buttons have none.
        With `while_typing` it is what a script asks for again and again while somebody types.
        """
        return self._register("POST", path, access, refill, while_typing=while_typing)

    def _register(
        self, method: str, path: str, access: PageAccess, refill: RefillForm | None, *, while_typing: bool = False
    ) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            @functools.wraps(handler)
            def view(**path_params: str) -> AnyResponse:
                return handler(
                    current_hub_request(), **{name: self._path_param(name, text) for name, text in path_params.items()}
                )

            def fill_in(hub_request: HubRequest, submitted: Mapping[str, str], **path_params: str) -> AnyResponse:
                assert refill is not None  # noqa: S101  see below
                return refill(
                    hub_request, submitted, **{name: self._path_param(name, text) for name, text in path_params.items()}
                )

            view.access = access  # type: ignore[attr-defined]  # read back by `who_of`
            view.refill = None if refill is None else fill_in  # type: ignore[attr-defined]  # read back by `again_of`
            view.while_typing = while_typing  # type: ignore[attr-defined]  # read back by `is_asked_while_typing`
            self.add_url_rule(path, endpoint=handler.__name__, view_func=view, methods=[method])
            return handler

        return register

    def _path_param(self, name: str, text: str) -> str | UUID:
        if not name.endswith("_id"):
            return text
        row_id = read_id(text)
        if row_id is None:
            raise NotFound(self.noun)
        return row_id


def access_of(view: Callable[..., Any] | None) -> PageAccess | None:
    """What a view declares, if it does."""
    found: PageAccess | None = getattr(view, "access", None)
    return found


def refill_of(view: Callable[..., Any] | None) -> RefillForm | None:
    """How the form that a view takes is filled in again, if it can be."""
    found: RefillForm | None = getattr(view, "refill", None)
    return found


def is_called_while_typing(view: Callable[..., Any] | None) -> bool:
    """Whether a view answers a script while somebody types."""
    return bool(getattr(view, "while_typing", False))


def current_hub_request() -> HubRequest:
    """The visit of this request."""
    hub_request: HubRequest = g.context
    return hub_request


def render(template: str, status: int = HTTPStatus.OK, **context: Any) -> Response:
    """A page from a template of `hub/`."""
    return Response(render_template(f"hub/{template}", **context), status, content_type="text/html; charset=utf-8")


def see_other(path: str) -> AnyResponse:
    """To another page of the Hub, with GET: a reload there sends nothing twice."""
    return redirect(path, HTTPStatus.SEE_OTHER)


def redirect_to_issuer(url: str, heading: str) -> Response:
    """To the issuer, by a page that leads on by itself, without JavaScript too.

    A redirect would be part of sending the form, and Chromium holds each host of such a chain to `form-action`. Issuers
    lead straight on to login pages at hosts that the Hub doesn't know.
    """
    return render("redirect.html", url=url, heading=heading)


def new_form_id() -> str:
    """For forms that must not work twice: see `Sessions.use_form`."""
    return secrets.token_urlsafe(16)


def read_form(model: type[Form], **parsed: Any) -> tuple[Form | None, dict[str, str]]:
    """The form that was sent as `model`, or what is wrong with it by field; `parsed` is what isn't plain text."""
    given: dict[str, Any] = {name: value for name, value in request.form.items() if name in model.model_fields}
    try:
        return model.model_validate({**given, **parsed}, strict=False), {}
    except ValidationError as error:
        return None, {str(item["loc"][0]): _field_error(item) for item in validation.errors_of(error) if item["loc"]}


def _field_error(item: ErrorDetails) -> str:
    """What is wrong with a field; where it is a list, in which line."""
    place = next((f"Line {part + 1}: " for part in item["loc"][1:] if isinstance(part, int)), "")
    return place + error_message(item)


_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "Fill this in.",
    "string_too_short": "Fill this in.",
    "string_too_long": "Use at most {max_length:,} characters.",
    "too_long": "Use at most {max_length:,} lines.",
    "greater_than_equal": "Use a number that is at least {ge:,}.",
    "less_than_equal": "Use a number that is at most {le:,}.",
    "int_parsing": "Use a whole number, such as 8.",
    "int_from_float": "Use a whole number, such as 8.",
    "float_parsing": "Use a number, such as 0.5.",
    "finite_number": "Use a number, such as 0.5.",
    "enum": "Choose one from the list.",
}
"""The commonest mistakes by pydantic's names for them. A list is a field with a line for each of its items."""


def error_message(item: ErrorDetails) -> str:
    """What is wrong with a field, for whoever filled it in."""
    if item["type"] in _MESSAGES:
        context = item.get("ctx", {})
        return _MESSAGES[item["type"]].format(**{name: _whole(value) for name, value in context.items()})
    said = validation.in_words(item)
    return f"{said[0].upper()}{said[1:]}."


def _whole(value: Any) -> Any:
    """1.0 as people write it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def page_of(path: str) -> str:
    """The page on which the form is that is sent to `path`: at the same path, or at the nearest one above it."""
    pages = current_app.url_map.bind("")
    while path != "/":
        try:
            pages.match(path, method="GET")
        except (HTTPException, RequestRedirect):
            path = path.rpartition("/")[0] or "/"
        else:
            break
    return path


def is_path(text: str | None) -> bool:
    """Whether a browser that is sent there stays at the Hub: no host, no scheme, nothing that is read in two ways."""
    return bool(
        text and text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    )
