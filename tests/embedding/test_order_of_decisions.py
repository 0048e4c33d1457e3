"""An application that embeds Kataven decides in the order of docs/authentication.md, as the API does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from flask import Flask

from tests.embedding.asgi_client import AsgiClient
from tests.support.app_harness import AppHarness
from tests.test_order_of_decisions import PAIRS, SINGLES, Defect, Draft, _special_accounts

__all__ = ["_special_accounts"]


@dataclass(frozen=True)
class AsgiHarness:
    """The part of a harness that a draft of a request needs."""

    harness: AppHarness
    client: AsgiClient

    def caller(self) -> AsgiClient:
        return self.client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.harness, name)


@pytest.fixture(scope="module", params=["flask", "asgi"])
def embedding(request: pytest.FixtureRequest, harness: AppHarness) -> Any:
    if request.param == "flask":
        app: Flask = request.getfixturevalue("shop")
        return replace(harness, app=app)
    return AsgiHarness(harness, request.getfixturevalue("asgi_shop"))


@pytest.mark.parametrize("kind", ["key", "jwt"])
def test_request_without_a_defect_is_accepted(embedding: Any, kind: str) -> None:
    assert Draft(kind).send(embedding).status_code == 200


@pytest.mark.parametrize(("kind", "defect"), SINGLES, ids=lambda value: getattr(value, "name", value))
def test_each_defect_returns_the_documented_error(embedding: Any, kind: str, defect: Defect) -> None:
    draft = Draft(kind)
    defect.spoil(draft)
    assert outcome(draft.send(embedding)) == (defect.status, defect.code)


# The steps are those of the API, whose test covers every pair. One pair per first defect shows that they are in order.
NEIGHBOURS = list({(kind, first.name): (kind, first, second) for kind, first, second in PAIRS}.values())


@pytest.mark.parametrize(("kind", "first", "second"), NEIGHBOURS, ids=lambda value: getattr(value, "name", value))
def test_of_two_defects_the_earlier_check_decides(embedding: Any, kind: str, first: Defect, second: Defect) -> None:
    draft = Draft(kind)
    for defect in (second, first):
        defect.spoil(draft)
    assert outcome(draft.send(embedding)) == (first.status, first.code)


def outcome(response: Any) -> tuple[int, str]:
    assert response.content_type == "application/problem+json"
    body = response.get_json()
    assert body["status"] == response.status_code
    return response.status_code, body["code"]
