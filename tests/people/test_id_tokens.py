"""An ID token for the Hub's client opens no operation of the API (ASVS 9.2.2)."""

from __future__ import annotations

import pytest

from kataven.dev.personas import ALICE
from kataven.web.operation import operation_of
from tests.support.app_harness import AppHarness


@pytest.mark.parametrize(
    "claims",
    [{}, {"nonce": None, "at_hash": None}, {"nonce": None, "at_hash": None, "aud": ["kataven-hub"], "jti": "1"}],
    ids=["of a sign-in", "of a refresh", "of a refresh, with a jti"],
)
def test_an_id_token_opens_no_operation(harness: AppHarness, claims: dict[str, object]) -> None:
    caller = harness.bearer(harness.issuer.id_token(ALICE, **claims), "acme")  # type: ignore[arg-type]
    opened = []
    for rule in harness.app.url_map.iter_rules():
        operation = operation_of(harness.app.view_functions[rule.endpoint])
        if operation is None or operation.access.public or not operation.path.startswith("/v1/"):
            continue
        path = operation.path.replace("<", "").replace(">", "")
        response = caller.call(operation.method, path)
        if response.status_code != 401 or response.get_json()["code"] != "invalid_credential":
            opened.append((operation.method, operation.path, response.status_code))
    assert opened == []
