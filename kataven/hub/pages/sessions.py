"""The user's sessions of the Hub: this browser and the others. Ends one of them, or all."""

from __future__ import annotations

from datetime import UTC, datetime

from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.page_blueprint import SIGNED_IN, HubRequest, PageBlueprint, render, see_other
from kataven.hub.session_list import ListedSession
from kataven.hub.session_middleware import hub_services, save_session
from kataven.identity.people import Presented
from kataven.people.access import Cause

blueprint = PageBlueprint("sessions", __name__, "session")

PATH = "/sessions"


@blueprint.page(PATH, SIGNED_IN)
def show_sessions(hub_request: HubRequest) -> AnyResponse:
    found = _without_ended(hub_request, _listed(hub_request))
    return render(
        "sessions.html",
        current=next((one for one in found if one.id == hub_request.session.id), None),
        others=[one for one in found if one.id != hub_request.session.id],
        moment_of=lambda seconds: datetime.fromtimestamp(seconds, UTC),
    )


@blueprint.form(f"{PATH}/<session>/end", SIGNED_IN)
def end_session(hub_request: HubRequest, session: str) -> AnyResponse:
    """End another session of the user. `session` is its id."""
    user = hub_request.session.user
    assert user is not None  # noqa: S101  the session middleware requires a user
    listed = next((one for one in _listed(hub_request) if one.id == session), None)
    ended = listed is not None and hub_services().sessions.end_listed(user, session)
    if session == hub_request.session.id:
        return see_other(PATH)
    what = f"Ended the session in {listed.device}." if ended and listed else "This session had ended already."
    save_session(hub_request, hub_request.session.with_(notice=what))
    return see_other(PATH)


@blueprint.form(f"{PATH}/end-all", SIGNED_IN)
def end_all_sessions(hub_request: HubRequest) -> AnyResponse:
    """Refuse every session and token of the user, in all accounts. The next page is the sign-in page."""
    user = hub_request.session.user
    assert user is not None  # noqa: S101  as above
    access = hub_request.services.people
    access.end_sessions(access.person(user.subject), None, Cause("ended by the user", f"jwt:{user.subject}"))
    return see_other(PATH)


def _listed(hub_request: HubRequest) -> list[ListedSession]:
    user = hub_request.session.user
    assert user is not None  # noqa: S101  as above
    return hub_services().sessions.listed(user)


def _without_ended(hub_request: HubRequest, listed: list[ListedSession]) -> list[ListedSession]:
    """The sessions that no cutoff refuses at their next request."""
    user = hub_request.session.user
    assert user is not None  # noqa: S101  as above
    person = hub_request.services.people.person(user.subject).id
    oldest = Presented(person, min((one.began_at for one in listed), default=None))
    restrictions = hub_request.services.directory.restrictions(None, oldest)  # those of the oldest concern all
    return [one for one in listed if restrictions.refusal(Presented(person, one.began_at)) is None]
