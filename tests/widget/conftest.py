"""A web page with a widget key, and the requests of its visitors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from werkzeug.test import TestResponse

from kataven.widget.visitor_tokens import AUDIENCE
from tests.support.app_harness import AppHarness, Caller

ORIGIN = "https://www.acme.com"


@dataclass(frozen=True)
class Site:
    """A web site with a widget key, at `origin`."""

    harness: AppHarness
    owner: Caller = field(repr=False)
    key: str = field(repr=False)
    key_id: str
    agent_id: str
    origin: str | None = ORIGIN

    def at(self, origin: str | None) -> Site:
        return Site(self.harness, self.owner, self.key, self.key_id, self.agent_id, origin)

    def config(self, **query: Any) -> TestResponse:
        given = {"client_key": self.key, "agent_id": self.agent_id, **query}
        return self._call("GET", "/v1/widget/config", query_string=without_none(given))

    def guest(self, **body: Any) -> TestResponse:
        given = {"client_key": self.key, "agent_id": self.agent_id, **body}
        return self._call("POST", "/v1/widget/auth/guest", json=without_none(given))

    def exchange(self, user_token: str, **body: Any) -> TestResponse:
        given = {"client_key": self.key, "agent_id": self.agent_id, "user_token": user_token, **body}
        return self._call("POST", "/v1/widget/auth/exchange", json=without_none(given))

    def refresh(self, refresh_token: str) -> TestResponse:
        return self._call("POST", "/v1/widget/auth/refresh", json={"refresh_token": refresh_token})

    def change(self, **fields: Any) -> dict[str, Any]:
        """Change the key as its owner."""
        response = self.owner.patch(f"/v1/widget-keys/{self.key_id}", fields)
        assert response.status_code == 200, response.text
        changed: dict[str, Any] = response.get_json()
        return changed

    def agent(self, **fields: Any) -> None:
        assert self.owner.patch(f"/v1/agents/{self.agent_id}", fields).status_code == 200

    def agent_widget(self, **fields: Any) -> None:
        assert self.owner.patch(f"/v1/agents/{self.agent_id}/widget-settings", fields).status_code == 200

    def _call(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {} if self.origin is None else {"Origin": self.origin}
        return self.harness.caller().call(method, path, headers=headers, **options)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def refusal(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["code"]


@dataclass(frozen=True)
class VoiceEdge:
    """Verifies visitor tokens offline, with the published keys and another JWT library."""

    harness: AppHarness

    def claims(self, token: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(self.harness.caller().get("/v1/widget/jwks.json").get_json())
        decoded = jwt.decode(token, keys, algorithms=["ES256"])
        assert decoded.header["typ"] == "kataven-visitor+jwt"
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self.harness.services.widget.public_url},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
        ).validate(decoded.claims)
        return decoded.claims


@pytest.fixture
def edge(harness: AppHarness) -> VoiceEdge:
    return VoiceEdge(harness)


def new_agent(owner: Caller, **settings: Any) -> str:
    """An active agent whose widget is enabled for all visitor types."""
    created = owner.post("/v1/agents", {"name": "Front desk", "status": "active", "greeting_message": "Good day!"})
    agent_id: str = created.get_json()["id"]
    enabled = {"widget_enabled": True, "auth_mode": "both", **settings}
    assert owner.patch(f"/v1/agents/{agent_id}/widget-settings", enabled).status_code == 200
    return agent_id


@pytest.fixture
def new_site(harness: AppHarness) -> Callable[..., Site]:
    def create(owner: Caller, *, pinned: bool = False, domains: tuple[str, ...] = ("www.acme.com",)) -> Site:
        agent_id = new_agent(owner)
        body = {"name": "Site", "domain_allowlist": list(domains), "agent_id": agent_id if pinned else None}
        created = owner.post("/v1/widget-keys", body)
        assert created.status_code == 201, created.text
        return Site(harness, owner, created.get_json()["key"], created.get_json()["id"], agent_id)

    return create


@pytest.fixture
def site(new_site: Callable[..., Site], alice: Caller) -> Site:
    """A site at www.acme.com, with a key that is not pinned and an agent that allows guests and users."""
    return new_site(alice)


@pytest.fixture
def create_user_token(acme_key: Caller) -> Callable[..., str]:
    """Creates user tokens with acme's API key."""

    def create(server: Caller = acme_key, **user: Any) -> str:
        response = server.post("/v1/widget/auth/user-token", {"external_user_id": "u-17", **user})
        assert response.status_code == 201, response.text
        token: str = response.get_json()["user_token"]
        return token

    return create
