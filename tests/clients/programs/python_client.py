"""Drives the API with the client that openapi-python-client generates."""

from __future__ import annotations

import os
import uuid

from kataven_hub_api_client import AuthenticatedClient
from kataven_hub_api_client.api.agents import create_agent, delete_agent, get_agent, list_agents, update_agent
from kataven_hub_api_client.api.me import get_me
from kataven_hub_api_client.models import Agent, AgentInput, AgentPatch, AgentStatus, Problem, ProblemCode

url = os.environ["KATAVEN_URL"]
client = AuthenticatedClient(base_url=url, token=os.environ["KATAVEN_API_KEY"])
limited_client = AuthenticatedClient(base_url=url, token=os.environ["LIMITED_KEY"])

for name in ("First", "生产环境", "Third"):
    created = create_agent.sync(client=client, body=AgentInput(name=name))
    assert isinstance(created, Agent), created
    assert (created.name, created.status) == (name, AgentStatus.DRAFT)

found: list[Agent] = []
cursor: str | None = None
while True:
    query = {} if cursor is None else {"cursor": cursor}
    page = list_agents.sync_detailed(client=client, limit=2, **query)
    assert isinstance(page.parsed, list), page
    found += page.parsed
    cursor = page.headers.get("X-Next-Cursor")
    if cursor is None:
        break
assert [agent.name for agent in found] == ["Third", "生产环境", "First"]

agent_id = found[0].id
etag = get_agent.sync_detailed(agent_id, client=client).headers["ETag"]
changes = AgentPatch(status=AgentStatus.ACTIVE)
updated = update_agent.sync(agent_id, client=client, body=changes, if_match=etag)
assert isinstance(updated, Agent)
assert updated.status is AgentStatus.ACTIVE
lost = update_agent.sync(agent_id, client=client, body=changes, if_match=etag)
assert isinstance(lost, Problem)
assert lost.code == ProblemCode.PRECONDITION_FAILED
absent = get_agent.sync(uuid.uuid4(), client=client)
assert isinstance(absent, Problem)
assert absent.code == ProblemCode.NOT_FOUND
invalid = create_agent.sync(client=client, body=AgentInput(name=""))
assert isinstance(invalid, Problem)
assert [problem.field for problem in invalid.errors or []] == ["name"]

get_me.sync(client=limited_client)
limited = get_me.sync(client=limited_client)
assert isinstance(limited, Problem)
assert limited.code == ProblemCode.RATE_LIMITED

# A code of a later version is a string.
later = Problem.from_dict({**absent.to_dict(), "code": "invented_later"})
assert later.code == "invented_later"
assert delete_agent.sync_detailed(agent_id, client=client).status_code == 204
print("openapi-python-client: done")  # noqa: T201
