"""Requests that Schemathesis generates from the OpenAPI document have documented responses."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.support import openapi_formats  # noqa: F401  registers formats
from tests.support.app_harness import AppHarness
from tests.web.test_openapi import CUSTOMERS, OPERATORS

pytestmark = pytest.mark.searches

# KATAVEN_TEST_EXAMPLES=200 searches further, with different examples on every run.
REQUESTED_EXAMPLES = os.environ.get("KATAVEN_TEST_EXAMPLES")
EXAMPLES = {
    GenerationMode.POSITIVE: int(REQUESTED_EXAMPLES or 10),
    GenerationMode.NEGATIVE: int(REQUESTED_EXAMPLES or 5),
}

# This check sends a malformed bearer token and expects 401. The API returns 400 `malformed_token` without a lookup;
# tests/test_order_of_decisions.py tests every credential error.
ignored_auth = schemathesis.checks.CHECKS.get_one("ignored_auth")


# JSON Schema can't express these constraints: limits that contradict each other, a checksum, the entries of an
# allowlist, a host in a URL, an existing agent, the length of a period, the filters that a cursor belongs to. So input
# that matches the schema can return 400; tests/widget tests the messages.
positive_data_acceptance = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
MORE_THAN_A_SCHEMA_SAYS = (
    "/v1/api-keys",
    "/v1/requests",
    "/v1/usage",
    "/v1/widget-keys",
    "/v1/widget-settings",
    "/v1/widget/",
)

# /v1/verify accepts every method, and wrong parameters are 503: the gateway's operator must fix them.
FOR_GATEWAYS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in ("unsupported_method", "not_a_server_error", "negative_data_rejection")
]


def excluded_checks(path: str) -> list[Any]:
    if path == "/v1/verify":
        return [ignored_auth, *FOR_GATEWAYS]
    return [ignored_auth, *([positive_data_acceptance] if path.startswith(MORE_THAN_A_SCHEMA_SAYS) else [])]


@pytest.fixture(scope="session", params=[CUSTOMERS, OPERATORS])
def api_schema(harness: AppHarness, request: pytest.FixtureRequest) -> OpenApiSchema:
    return schemathesis.openapi.from_wsgi(request.param, harness.app)


# Background threads of the product use `random` for jitter while Hypothesis generates a case.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("credential", ["key", "jwt"])
def test_valid_requests_conform_to_the_document(
    harness: AppHarness, api_schema: OpenApiSchema, credential: str
) -> None:
    token = harness.new_key("acme") if credential == "key" else harness.issuer.token()
    # `identity`, because the WSGI transport does not decompress responses; tests/web/test_compression.py tests gzip.
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Account-ID": "acme",
        "Accept-Encoding": "identity",
        "Accept": "application/json",  # without it, /v1/verify returns no body
    }
    for result in api_schema.get_all_operations():
        operation = result.ok()
        every_case_conforms(operation, headers)


# Background threads of the product use `random` for jitter while Hypothesis generates a case.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_invalid_requests_return_a_documented_status(harness: AppHarness, api_schema: OpenApiSchema) -> None:
    headers = {
        "Authorization": f"Bearer {harness.issuer.token()}",
        "X-Account-ID": "acme",
        "Accept-Encoding": "identity",
    }
    for result in api_schema.get_all_operations():
        operation = result.ok()
        if operation.body or operation.query:
            every_case_conforms(operation, headers, GenerationMode.NEGATIVE)


def every_case_conforms(
    operation: Any, headers: dict[str, str], mode: GenerationMode = GenerationMode.POSITIVE
) -> None:
    excluded = excluded_checks(operation.path)

    # The headers of this test replace invalid ones, so those can't cause a rejection.
    fixed = headers if mode is GenerationMode.NEGATIVE else None

    @given(case=operation.as_strategy(mode, headers=fixed))
    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=REQUESTED_EXAMPLES is None,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def conforms(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    conforms()
