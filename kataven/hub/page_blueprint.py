"""Declares pages and forms, and who may access them. A view without a declaration is denied to every user."""

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
"""Shows the page of a form, filled in with the submitted fields. Has no side effects. Path parameters follow."""


@dataclass(frozen=True, slots=True)
class PageAccess:
    """Who may access a page."""

    anonymous: bool = False
    """Accessible without sign-in."""
    operators: bool = False
    """Operators only."""
    account_access: Access | None = None
    """Users who have this access to their current account."""


_PAGE_PATHS: Final = "kataven.page-paths"
ANONYMOUS = PageAccess(anonymous=True)
SIGNED_IN = PageAccess()
"""Any signed-in user, regardless of account and role."""
MEMBERS = PageAccess(account_access=READ)
MANAGERS = PageAccess(account_access=MANAGE)
OPERATORS = PageAccess(operators=True)


@dataclass(slots=True)
class HubRequest(RequestContext):
    """One request of a browser: a request context with a session."""

    session: Session = field(default_factory=lambda: Session("", "", 0))
    cookie: str | None = None
    """The new value of the session cookie. None keeps the cookie; an empty string deletes it."""
    field_errors: list[tuple[str | None, str]] = field(default_factory=list)
    """The errors of the form on this page, in the order of its fields: the id of the field, and the message."""
    page_notice: str | None = None
    """The message at the top of this page. It takes precedence over the session's notice."""
    operator: str | None = None
    """The operator's subject at the issuer, on pages of the console."""

    @property
    def actor(self) -> Actor:
        """The caller, with the name from the ID token: Zitadel's access tokens contain no name."""
        actor = super(HubRequest, self).actor  # `slots=True` replaces the class, so `super()` fails
        return actor if self.session.user is None else replace(actor, name=self.session.user.name)

    @property
    def operator_label(self) -> str:
        """The operator's label in the operator audit log."""
        return f"jwt:{self.operator}"

    @property
    def may_manage(self) -> bool:
        """Whether to offer actions for owners and admins. The session middleware authorizes the actions themselves."""
        return self.admitted is not None and self.admitted.principal.role in {Role.OWNER, Role.ADMIN}


class PageBlueprint(Blueprint):
    """A blueprint of pages. Handlers receive the request and the path parameters; those named `…_id` as UUIDs."""

    def __init__(self, name: str, import_name: str, noun: str = "page") -> None:
        super().__init__(name, import_name)
        self.noun = noun

    def page(self, path: str, access: PageAccess) -> Callable[[Handler], Handler]:
        """Register a page (GET)."""
        return self._register("GET", path, access, None)

    def form(
        self,
        path: str,
        access: PageAccess,
        refill: RefillForm | None = None,
        *,
        while_typing: bool = False,
        has_secret: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Register a form (POST). The session middleware has verified its CSRF token.

        `refill` shows the form again with the submitted fields if its session has ended. Forms with text fields need
        one; single buttons don't. `while_typing` marks a form that a script sends while the user types. `has_secret`
        marks a form whose fields are never kept and never shown again, so it has no `refill`.
        """
        if has_secret and refill is not None:
            raise ValueError("a form with a secret can't be shown again")
        return self._register("POST", path, access, refill, while_typing=while_typing, has_secret=has_secret)

    def event(self, path: str) -> Callable[[Handler], Handler]:
        """Register an endpoint (POST) that the issuer's server calls with a signed token. It has no session and no CSRF
        token, and must verify the token itself."""

        def register(handler: Handler) -> Handler:
            self._register("POST", path, ANONYMOUS, None, from_issuer=True)(handler)
            return handler

        return register

    def _register(
        self,
        method: str,
        path: str,
        access: PageAccess,
        refill: RefillForm | None,
        *,
        while_typing: bool = False,
        has_secret: bool = False,
        from_issuer: bool = False,
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

            view.access = access  # type: ignore[attr-defined]  # see `access_of`
            view.refill = None if refill is None else fill_in  # type: ignore[attr-defined]  # see `refill_of`
            view.while_typing = while_typing  # type: ignore[attr-defined]  # see `is_called_while_typing`
            view.has_secret = has_secret  # type: ignore[attr-defined]  # see `takes_a_secret`
            view.from_issuer = from_issuer  # type: ignore[attr-defined]  # see `is_called_by_issuer`
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
    """The declared access of a view, or None if it declares none."""
    found: PageAccess | None = getattr(view, "access", None)
    return found


def refill_of(view: Callable[..., Any] | None) -> RefillForm | None:
    """The function that shows a view's form again, filled in, or None if it has none."""
    found: RefillForm | None = getattr(view, "refill", None)
    return found


def is_called_while_typing(view: Callable[..., Any] | None) -> bool:
    """Whether a script calls this view while the user types."""
    return bool(getattr(view, "while_typing", False))


def takes_a_secret(view: Callable[..., Any] | None) -> bool:
    """Whether a field of this form contains a secret."""
    return bool(getattr(view, "has_secret", False))


def is_called_by_issuer(view: Callable[..., Any] | None) -> bool:
    """Whether the issuer's server calls this view, without a browser."""
    return bool(getattr(view, "from_issuer", False))


def current_hub_request() -> HubRequest:
    """The Hub request of the current Flask request."""
    hub_request: HubRequest = g.kataven
    return hub_request


def render(template: str, status: int = HTTPStatus.OK, **context: Any) -> Response:
    """Render a template of `hub/`."""
    return Response(render_template(f"hub/{template}", **context), status, content_type="text/html; charset=utf-8")


def see_other(path: str) -> AnyResponse:
    """Redirect to a page of the Hub with status 303, so that a reload submits nothing twice."""
    return redirect(path, HTTPStatus.SEE_OTHER)


def redirect_to_issuer(url: str, heading: str) -> Response:
    """Redirect to the issuer with a page that refreshes to `url`. Works without JavaScript.

    An HTTP redirect would be part of the form submission, and Chromium applies `form-action` to each host of the
    redirect chain. Issuers redirect to login pages on hosts that the Hub doesn't know.
    """
    return render("redirect.html", url=url, heading=heading)


def new_form_id() -> str:
    """An id for forms that must not be processed twice: see `Sessions.use_form`."""
    return secrets.token_urlsafe(16)


def read_form(model: type[Form], **parsed: Any) -> tuple[Form | None, dict[str, str]]:
    """Validate the submitted form: the model, or the messages by field. `parsed`: values that aren't strings."""
    fields: dict[str, Any] = {name: value for name, value in request.form.items() if name in model.model_fields}
    try:
        return model.model_validate({**fields, **parsed}, strict=False), {}
    except ValidationError as error:
        return None, {str(item["loc"][0]): _field_error(item) for item in validation.errors_of(error) if item["loc"]}


LABEL: Final = "{Label}"
A_LABEL: Final = "{a label}"
"""Placeholders in the message of a field. The templates know the label and fill it in: see `with_label`."""


_MESSAGES: Final[Mapping[str, str]] = {
    "missing": f"Enter {A_LABEL}",
    "string_too_short": f"Enter {A_LABEL}",
    "string_too_long": f"{LABEL} must be %(max_length)s characters or fewer",
    "too_long": f"{LABEL} must have %(max_length)s lines or fewer",
    "greater_than_equal": f"{LABEL} must be %(ge)s or more",
    "less_than_equal": f"{LABEL} must be %(le)s or less",
    "int_parsing": f"{LABEL} must be a whole number, such as 8",
    "int_from_float": f"{LABEL} must be a whole number, such as 8",
    "float_parsing": f"{LABEL} must be a number, such as 0.5",
    "finite_number": f"{LABEL} must be a number, such as 0.5",
    "enum": f"Choose {A_LABEL} from the list",
}
"""Messages in the register of forms, by Pydantic's error type. Other types use the API's message.

Forms show a list as a text field with one line per item.
"""


def _field_error(item: ErrorDetails) -> str:
    """The message that is shown beside a field and in the error summary, with placeholders for the label."""
    line = next((part + 1 for part in item["loc"][1:] if isinstance(part, int)), None)
    if line is not None:
        return f"{LABEL}, line {line}: {validation.in_words(item)}"
    if item["type"] in _MESSAGES:
        return _MESSAGES[item["type"]] % {name: _number(value) for name, value in item.get("ctx", {}).items()}
    return f"{LABEL} {validation.in_words(item)}"


def with_label(message: str, label: str) -> str:
    """Fill in the label of a field: `Enter a name`, `Volume must be 1 or less`."""
    article = "an" if label[:1].lower() in "aeiou" else "a"
    in_sentence = label if label[1:2].isupper() else f"{label[:1].lower()}{label[1:]}"
    return message.replace(LABEL, label).replace(A_LABEL, f"{article} {in_sentence}")


def _number(value: Any) -> Any:
    """`1,000` for 1000, and `1` for 1.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:,}" if isinstance(value, int) else value


def page_of(path: str) -> str:
    """The page that contains the form for `path`: the page at this path, or the nearest one above it."""
    pages = current_app.url_map.bind("")
    while path != "/":
        try:
            pages.match(path, method="GET")
        except (HTTPException, RequestRedirect):
            path = path.rpartition("/")[0] or "/"
        else:
            break
    return path


def page_paths() -> frozenset[str]:
    """The paths of all pages of this app, with their placeholders."""
    paths: frozenset[str] | None = current_app.extensions.get(_PAGE_PATHS)
    if paths is None:
        rules = current_app.url_map.iter_rules()
        paths = frozenset(rule.rule for rule in rules if "GET" in (rule.methods or ()))
        current_app.extensions[_PAGE_PATHS] = paths
    return paths


def is_path(text: str | None) -> bool:
    """Whether a redirect to `text` stays at the Hub: no host, no scheme, no characters that browsers rewrite."""
    return bool(
        text and text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    )
