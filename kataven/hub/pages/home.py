"""Where an account begins: what there is in it, and the first request."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents, api_keys
from kataven.hub.gate import front
from kataven.hub.page import MEMBERS, Desk, Visit, show

desk = Desk("home", __name__)


@desk.shows("/", MEMBERS)
def show_home(visit: Visit) -> AnyResponse:
    with visit.reading() as session:
        some_keys = api_keys.listing(session, 1, None).rows
        some_agents = agents.listing(session, 3, None).rows
    return show(
        "home.html", has_keys=bool(some_keys), agents=some_agents, limits=visit.account.limits, api_url=front().api_url
    )
