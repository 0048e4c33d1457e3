"""The overview of an account: first request, agents, limits and the API's URL."""

from __future__ import annotations

from werkzeug.wrappers import Response as AnyResponse

from kataven.account import agents, api_keys
from kataven.hub.page_blueprint import MEMBERS, HubRequest, PageBlueprint, render
from kataven.hub.session_middleware import hub_services

blueprint = PageBlueprint("home", __name__)


@blueprint.page("/", MEMBERS)
def show_home(hub_request: HubRequest) -> AnyResponse:
    with hub_request.reading() as session:
        some_keys = api_keys.listing(session, 1, None).rows
        some_agents = agents.listing(session, 3, None).rows
    return render(
        "home.html",
        has_keys=bool(some_keys),
        agents=some_agents,
        limits=hub_request.account.limits,
        api_url=hub_services().api_url,
    )
