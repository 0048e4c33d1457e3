"""Restores forms that were submitted after their session ended, or from a page of an earlier session.

The Hub does not process these forms. It shows the form again with the submitted values, for the user to check and
submit: immediately if a session exists, otherwise after sign-in. This applies only to forms that declare `refill` (see
`PageBlueprint.form`), and only if the browser confirms that the request came from a page of the Hub. Other sites can't
prefill a form here.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_plus, urlencode

from flask import Flask, Response, current_app, request
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
    takes_a_secret,
)
from kataven.hub.secret_text import has_secret
from kataven.hub.session_middleware import (
    CLEAR_STORED_PAGES,
    CSRF_FIELD,
    SAFE_METHODS,
    SignInRequired,
    StaleForm,
    hub_services,
    save_session,
)

blueprint = PageBlueprint("late-forms", __name__)

IN_ACCOUNT: Final = "in_account"
"""The hidden field with the account in which the form was opened."""
SENT: Final = "/sent/"
CODE: Final = "stale_form"
_HIDDEN_FIELDS = frozenset({CSRF_FIELD, IN_ACCOUNT, "form_id", "seen", "choose", "next"})
_CHECK = "Your changes were not saved yet. Check the form and submit it again."
_EXPIRED = "The values that you entered are no longer available. Fill in the form again."


def install(app: Flask) -> None:
    """Redirect requests that need a session to the sign-in page, and keep their forms."""
    app.register_error_handler(SignInRequired, _to_sign_in)


def restore_form(hub_request: HubRequest, stale: StaleForm) -> AnyResponse:
    """The response to a form that does not belong to this session. Raises StaleForm if the form can't be restored."""
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
    """The fields of a form that was rejected by a rate limit, for a page that can submit it again.

    None if the form does not belong to this session, or contains a secret. Forms of unauthenticated browsers are not
    read.
    """
    if takes_a_secret(current_app.view_functions.get(request.endpoint or "")):
        return None
    if request.method in SAFE_METHODS or request.routing_exception is not None or hub_request.session.user is None:
        return None
    return (
        list(request.form.items(multi=True))
        if is_same_origin() and session_middleware.has_csrf_token(hub_request)
        else None
    )


def is_same_origin() -> bool:
    """Whether the browser confirms that a page of the Hub sent the request. False without an `Origin` header."""
    return (
        request.headers.get("Origin") == hub_services().url
        and request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    )


@blueprint.page(f"{SENT}<place>", SIGNED_IN)
def show_sent(hub_request: HubRequest, place: str) -> AnyResponse:
    """Show a form that was kept while its user signed in again."""
    is_slot = place.isascii() and place.isdigit() and len(place) == 1
    kept = hub_services().sessions.kept_form(hub_request.session, int(place)) if is_slot else None
    if kept is None:
        page = request.args.get("form", "")
        save_session(hub_request, hub_request.session.with_(notice=_EXPIRED))
        return see_other(page if is_path(page) else "/")
    if kept.account != hub_request.session.account:
        return _of_another_account(hub_request, kept.account, kept.fields)
    return _restored(hub_request, kept.path, kept.fields)


def _restored(hub_request: HubRequest, path: str, submitted: Mapping[str, str]) -> AnyResponse:
    """The page of the form at `path`, filled in, if the user may submit the form."""
    endpoint, path_params = current_app.url_map.bind("").match(path, method="POST")
    view = current_app.view_functions[endpoint]
    refill, access = refill_of(view), access_of(view)
    assert refill is not None  # noqa: S101  only forms with `refill` are kept
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
    visible = {name: value for name, value in submitted.items() if value and name not in _HIDDEN_FIELDS}
    shown = [(name.replace("_", " ").capitalize(), value) for name, value in visible.items()]
    return render("other_account.html", HTTPStatus.FORBIDDEN, account=account, submitted=shown)


def _to_sign_in(error: SignInRequired) -> AnyResponse:
    response = _redirect_to_sign_in(error)
    if request.cookies.get(hub_services().cookie_name) and current_hub_request().session.user is None:
        response.headers.add(*CLEAR_STORED_PAGES)  # the session ended
    return response


def _redirect_to_sign_in(error: SignInRequired) -> AnyResponse:
    if session_middleware.is_live_update():  # reload the page instead of replacing a part of it with the sign-in page
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Refresh": "true"})
    if request.method in SAFE_METHODS:
        query_text = unquote_plus(request.query_string.decode("latin-1"))
        next_path = request.path if has_secret(query_text) else request.full_path.removesuffix("?")
        query = {"next": next_path} if next_path != "/" else {}
        query |= {"ended": error.ended} if error.ended is not None else {}
        return see_other(f"{error.path}?{urlencode(query)}" if query else error.path)
    page = page_of(request.path)
    if error.path != "/sign-in" or page == "/sign-in":
        return see_other(error.path)
    query = {"next": _save_form(page) or page, "ended": error.ended or "1"}
    return see_other(f"{error.path}?{urlencode(query)}")


def _save_form(page: str) -> str | None:
    """Keep the form of this request. Returns the path that shows it again, or None if it was not kept."""
    hub_request = current_hub_request()
    ended_session = hub_request.session.ended_session
    if ended_session is None or not is_same_origin():
        return None
    submitted = _submitted()
    slot = None
    if refill_of(current_app.view_functions.get(request.endpoint or "")) is not None and IN_ACCOUNT in submitted:
        slot = hub_services().sessions.keep_form(
            ended_session, KeptForm(request.path, submitted[IN_ACCOUNT], submitted)
        )
    save_session(hub_request, hub_request.session)
    return None if slot is None else f"{SENT}{slot}?{urlencode({'form': page})}"


def _submitted() -> dict[str, str]:
    return {name: value for name, value in request.form.items() if name != CSRF_FIELD}
