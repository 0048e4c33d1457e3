"""A form that comes too late: its session is over, or another one has begun since the page was opened.

Nothing is done with it. What was typed comes back in the form, for the person to check and send again: at once if there
is a session, and otherwise after signing in. Only forms that say how they are filled in again (`Desk.takes`) do so, and
only for a request that the browser vouches for as our own page's: no other page gets a form filled in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from flask import Flask, current_app, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import session_middleware
from kataven.hub.kept_forms import KeptForm
from kataven.hub.page_blueprint import (
    SIGNED_IN,
    HubRequest,
    PageBlueprint,
    access_of,
    current_hub_request,
    is_path,
    page_of,
    refill_of,
    render,
    see_other,
)
from kataven.hub.session_middleware import CSRF_FIELD, SAFE_METHODS, SignInFirst, StaleForm, hub_services, save_session

blueprint = PageBlueprint("late-forms", __name__)

IN_ACCOUNT: Final = "in_account"
"""The hidden field that names the account in which the form was opened."""
SENT: Final = "/sent/"
CODE: Final = "stale_form"
_NOT_TYPED = frozenset({CSRF_FIELD, IN_ACCOUNT, "form_id", "seen", "choose", "next"})
_CHECK = "Nothing was saved yet. Check what you typed, and send it again."
_GONE = "What you typed is not kept any more. Fill the form in again."


def install(app: Flask) -> None:
    """Lead every request that needs a session to the sign-in page, without losing its form."""
    app.register_error_handler(SignInFirst, _to_sign_in)


def restore_form(hub_request: HubRequest, stale: StaleForm) -> AnyResponse:
    """The answer to a form that is not one of this session's. Raises StaleForm if it can't be filled in again."""
    view, submitted = current_app.view_functions.get(request.endpoint or ""), _submitted()
    access = access_of(view)
    if access is None or refill_of(view) is None or not is_same_origin():
        raise stale
    if not access.anonymous:
        if IN_ACCOUNT not in submitted:
            raise stale
        session_middleware.authorize()
        if submitted[IN_ACCOUNT] != hub_request.session.account:
            return _of_another_account(hub_request, submitted[IN_ACCOUNT], submitted)
    return _restored(hub_request, request.path, submitted)


def resendable_fields(hub_request: HubRequest) -> list[tuple[str, str]] | None:
    """The fields of a form that was refused for its address's sake, for a page that can send it again; None if it is
    not one of this session's. Strangers' forms are not even read."""
    if request.method in SAFE_METHODS or request.routing_exception is not None or hub_request.session.user is None:
        return None
    return (
        list(request.form.items(multi=True))
        if is_same_origin() and session_middleware.has_csrf_token(hub_request)
        else None
    )


def is_same_origin() -> bool:
    """Whether the browser says so itself. Without the header, nothing is known."""
    return (
        request.headers.get("Origin") == hub_services().url
        and request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    )


@blueprint.page(f"{SENT}<place>", SIGNED_IN)
def show_sent(hub_request: HubRequest, place: str) -> AnyResponse:
    """A form that was kept while its person signed in again."""
    is_one = place.isascii() and place.isdigit() and len(place) == 1
    kept = hub_services().sessions.kept_form(hub_request.session, int(place)) if is_one else None
    if kept is None:
        page = request.args.get("form", "")
        save_session(hub_request, hub_request.session.with_(notice=_GONE))
        return see_other(page if is_path(page) else "/")
    if kept.account != hub_request.session.account:
        return _of_another_account(hub_request, kept.account, kept.fields)
    return _restored(hub_request, kept.path, kept.fields)


def _restored(hub_request: HubRequest, path: str, submitted: Mapping[str, str]) -> AnyResponse:
    """The page of the form at `path`, for those who may send it."""
    endpoint, path_params = current_app.url_map.bind("").match(path, method="POST")
    view = current_app.view_functions[endpoint]
    refill, access = refill_of(view), access_of(view)
    assert refill is not None  # noqa: S101  only such forms are kept
    assert access is not None  # noqa: S101  as above
    session_middleware.require_access(hub_request, access)
    hub_request.page_notice = _CHECK
    response = refill(hub_request, submitted, **path_params)
    if request.method not in SAFE_METHODS and response.status_code == HTTPStatus.OK:
        hub_request.problem = CODE
        response.status_code = HTTPStatus.FORBIDDEN
    return response


def _of_another_account(hub_request: HubRequest, account: str, submitted: Mapping[str, str]) -> AnyResponse:
    hub_request.problem = CODE
    shown = [(name.replace("_", " "), value) for name, value in submitted.items() if value and name not in _NOT_TYPED]
    return render("other_account.html", HTTPStatus.FORBIDDEN, account=account, submitted=shown)


def _to_sign_in(error: SignInFirst) -> AnyResponse:
    if request.method in SAFE_METHODS:
        next_path = request.full_path.removesuffix("?")
        return see_other(error.path if next_path == "/" else f"{error.path}?{urlencode({'next': next_path})}")
    page = page_of(request.path)
    if error.path != "/sign-in" or page == "/sign-in":
        return see_other(error.path)
    return see_other(f"{error.path}?{urlencode({'next': _save_form(page) or page, 'ended': '1'})}")


def _save_form(page: str) -> str | None:
    """Keep the form of this request. The path at which it comes back, or None if it is not kept."""
    hub_request = current_hub_request()
    ended_session = hub_request.session.ended_session
    if ended_session is None or not is_same_origin():
        return None
    submitted = _submitted()
    place = None
    if refill_of(current_app.view_functions.get(request.endpoint or "")) is not None and IN_ACCOUNT in submitted:
        place = hub_services().sessions.keep_form(
            ended_session, KeptForm(request.path, submitted[IN_ACCOUNT], submitted)
        )
    save_session(hub_request, hub_request.session)
    return None if place is None else f"{SENT}{place}?{urlencode({'form': page})}"


def _submitted() -> dict[str, str]:
    return {name: value for name, value in request.form.items() if name != CSRF_FIELD}
