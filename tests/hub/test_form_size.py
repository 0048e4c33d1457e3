"""Limits of form size: small before sign-in, large enough for an agent's prompt after sign-in."""

from __future__ import annotations

from kataven.hub.session_middleware import MAX_ANONYMOUS_FORM_BYTES
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser

LONG = {"account": "x" * MAX_ANONYMOUS_FORM_BYTES}


def test_unauthenticated_form_over_8_kib_is_rejected(hub: Hub) -> None:
    anonymous = hub.browser()
    anonymous.get("/sign-in")
    assert anonymous.post("/sign-in", LONG).status_code == 413
    assert anonymous.post("/sign-in", {"account": "x" * 100}).status_code != 413


def test_signed_in_user_can_submit_larger_forms(alice: HubBrowser) -> None:
    assert alice.post("/accounts", LONG).status_code != 413
