"""`kataven people end`: an operator ends the sessions of a user."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest

from kataven.dev.personas import ALICE
from kataven.system import operators
from tests.support.app_harness import AppHarness


@pytest.mark.parametrize("account", [None, "acme"])
def test_the_command_ends_the_sessions_and_prints_the_receipt(harness: AppHarness, account: str | None) -> None:
    dana = replace(ALICE, subject=f"dana-{uuid4()}")
    caller = harness.bearer(harness.issuer.token(dana, claims={"iat": int(time.time()) - 5}), "acme")
    assert caller.get("/v1/me").status_code == 200
    words = ["people", "end", dana.subject, *(["--account", account] if account else []), "--json"]
    result = harness.app.test_cli_runner().invoke(args=words)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["account"] == (account or "all")
    assert printed["acknowledged"] == printed["workers"]
    assert caller.get("/v1/me").get_json()["code"] == "session_ended"
    with harness.services.directory.database.reading() as session:
        event = operators.listing(session, 1, action="person.sessions_ended")[0]
    assert event.detail["sub"] == dana.subject
    assert event.detail["receipt"]["acknowledged"] == printed["acknowledged"]


def test_an_unknown_account_is_an_error(harness: AppHarness) -> None:
    result = harness.app.test_cli_runner().invoke(args=["people", "end", "dana", "--account", "no-such"])
    assert result.exit_code == 1
    assert "no-such" in result.output
