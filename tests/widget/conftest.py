"""A page of acme's with a widget key, and what visitors on it ask for."""

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
    """A site that carries a widget key, on `origin`."""

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
        """The key, changed by its owner."""
        answer = self.owner.patch(f"/v1/widget-keys/{self.key_id}", fields)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.get_json()
        return changed

    def agent(self, **fields: Any) -> None:
        assert self.owner.patch(f"/v1/agents/{self.agent_id}", fields).status_code == 200

    def agent_widget(self, **fields: Any) -> None:
        assert self.owner.patch(f"/v1/agents/{self.agent_id}/widget-settings", fields).status_code == 200

    def _call(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {} if self.origin is None else {"Origin": self.origin}
        return self.harness.anybody().call(method, path, headers=headers, **options)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def refusal(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["code"]


@dataclass(frozen=True)
class VoiceEdge:
    """Verifies visitor tokens as somebody else would: with another library, from the published keys, asking nobody."""

    harness: AppHarness

    def claims(self, token: str) -> dict[str, Any]:
        keys = KeySet.import_key_set(self.harness.anybody().get("/v1/widget/jwks.json").get_json())
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
    """An active agent whose widget is on for everybody."""
    made = owner.post("/v1/agents", {"name": "Front desk", "status": "active", "greeting_message": "Good day!"})
    agent_id: str = made.get_json()["id"]
    on = {"widget_enabled": True, "auth_mode": "both", **settings}
    assert owner.patch(f"/v1/agents/{agent_id}/widget-settings", on).status_code == 200
    return agent_id


@pytest.fixture
def new_site(harness: AppHarness) -> Callable[..., Site]:
    def make(owner: Caller, *, pinned: bool = False, domains: tuple[str, ...] = ("www.acme.com",)) -> Site:
        agent_id = new_agent(owner)
        body = {"name": "Site", "domain_allowlist": list(domains), "agent_id": agent_id if pinned else None}
        made = owner.post("/v1/widget-keys", body)
        assert made.status_code == 201, made.text
        return Site(harness, owner, made.get_json()["key"], made.get_json()["id"], agent_id)

    return make


@pytest.fixture
def site(new_site: Callable[..., Site], alice: Caller) -> Site:
    """Acme's, on www.acme.com, with a key that is not pinned and an agent who takes guests and users."""
    return new_site(alice)


@pytest.fixture
def vouch(acme_key: Caller) -> Callable[..., str]:
    """Acme's server vouches for a user of its own."""

    def ask(server: Caller = acme_key, **user: Any) -> str:
        answer = server.post("/v1/widget/auth/user-token", {"external_user_id": "u-17", **user})
        assert answer.status_code == 201, answer.text
        token: str = answer.get_json()["user_token"]
        return token

    return ask
