"""The OpenAPI document is consistent with the routes and their responses."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from kataven.web.explanations import EXPLANATIONS
from kataven.web.operation import operation_of
from kataven.web.problems import PROBLEM_TYPES
from tests.support import openapi_formats  # noqa: F401  registers formats
from tests.support.app_harness import AppHarness

# KATAVEN_TEST_EXAMPLES=200 searches further, with different examples on every run.
REQUESTED_EXAMPLES = os.environ.get("KATAVEN_TEST_EXAMPLES")
EXAMPLES = {
    GenerationMode.POSITIVE: int(REQUESTED_EXAMPLES or 10),
    GenerationMode.NEGATIVE: int(REQUESTED_EXAMPLES or 5),
}

# This check sends a malformed bearer token and expects 401. The API returns 400 `malformed_token` without a lookup;
# tests/test_order_of_decisions.py tests every credential error.
ignored_auth = schemathesis.checks.CHECKS.get_one("ignored_auth")


# JSON Schema can't express these constraints: limits that contradict each other, a checksum, the entries of an allowlist, a host in a URL, an existing
# agent. So input that matches the schema can return 400; tests/widget tests the messages.
positive_data_acceptance = schemathesis.checks.CHECKS.get_one("positive_data_acceptance")
MORE_THAN_A_SCHEMA_SAYS = ("/v1/api-keys", "/v1/widget-keys", "/v1/widget-settings", "/v1/widget/")


def excluded_checks(path: str) -> list[Any]:
    return [ignored_auth, *([positive_data_acceptance] if path.startswith(MORE_THAN_A_SCHEMA_SAYS) else [])]


@pytest.fixture(scope="session")
def api_schema(harness: AppHarness) -> OpenApiSchema:
    return schemathesis.openapi.from_wsgi("/v1/openapi.json", harness.app)


# Background threads of the product use `random` for jitter while Hypothesis generates a case.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("credential", ["key", "jwt"])
def test_valid_requests_conform_to_the_document(
    harness: AppHarness, api_schema: OpenApiSchema, credential: str
) -> None:
    token = harness.new_key("acme") if credential == "key" else harness.issuer.token()
    # `identity`, because the WSGI transport does not decompress responses; tests/web/test_compression.py tests gzip.
    headers = {"Authorization": f"Bearer {token}", "X-Account-ID": "acme", "Accept-Encoding": "identity"}
    tried = 0
    for result in api_schema.get_all_operations():
        operation = result.ok()
        tried += 1
        every_case_conforms(operation, headers)
    assert tried == len(published(harness.app)) - 1, "all but the document itself"


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


def published(app: Flask) -> set[tuple[str, str]]:
    found = set()
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        assert operation is not None
        if operation.published:
            found.add((operation.method.lower(), re.sub(r"<(?:string:)?(\w+)>", r"{\1}", rule.rule)))
    return found


def test_document_lists_exactly_the_published_routes(harness: AppHarness) -> None:
    document = harness.caller().get("/v1/openapi.json").get_json()
    listed = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert listed == published(harness.app)
    assert document["openapi"] == "3.1.0"


def test_created_resources_link_to_all_their_operations(harness: AppHarness) -> None:
    paths = harness.caller().get("/v1/openapi.json").get_json()["paths"]
    for path in ("/v1/agents", "/v1/api-keys", "/v1/widget-keys"):
        beneath = {
            methods["operationId"] for at, ops in paths.items() if at.startswith(f"{path}/") for methods in ops.values()
        }
        links = paths[path]["post"]["responses"]["201"]["links"]
        assert beneath
        assert beneath <= {link["operationId"] for link in links.values()}
        made = {name: link for name, link in links.items() if name in beneath}
        assert {place for link in made.values() for place in link["parameters"].values()} == {"$response.body#/id"}


def test_every_problem_code_has_an_explanation(harness: AppHarness) -> None:
    assert set(EXPLANATIONS) == set(PROBLEM_TYPES)
    page = harness.caller().get("/docs/errors").text
    for code in PROBLEM_TYPES:
        assert f'id="{code}"' in page


def test_reference_loads_no_external_resources(harness: AppHarness) -> None:
    for path in ("/docs", "/docs/errors"):
        page = harness.caller().get(path)
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)
        assert "<script" not in page.text


def test_readiness_documents_its_503_response(harness: AppHarness) -> None:
    paths = harness.caller().get("/v1/openapi.json").get_json()["paths"]
    responses = paths["/readyz"]["get"]["responses"]
    assert responses["503"]["content"]["application/json"] == responses["200"]["content"]["application/json"]
