"""The OpenAPI document is consistent with the routes, and its names are stable."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from app import API_BLUEPRINTS
from kataven.identity.errors import Refused
from kataven.identity.scopes import SCOPES
from kataven.web import openapi
from kataven.web.explanations import EXPLANATIONS
from kataven.web.operation import operation_of
from kataven.web.problems import PROBLEM_TYPES
from tests.support.app_harness import AppHarness, new_account

Json = dict[str, Any]

CUSTOMERS, OPERATORS = "/v1/openapi.json", "/v1/openapi-operators.json"


@pytest.fixture(scope="module")
def customers(harness: AppHarness) -> Json:
    return document_at(harness, CUSTOMERS)


@pytest.fixture(scope="module")
def operators(harness: AppHarness) -> Json:
    return document_at(harness, OPERATORS)


def document_at(harness: AppHarness, path: str) -> Json:
    document: Json = harness.caller().get(path).get_json()
    return document


def operations_in(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def published(app: Flask) -> set[tuple[str, str]]:
    found = set()
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        assert operation is not None
        if operation.published:
            found.add((operation.method.lower(), re.sub(r"<(?:string:)?(\w+)>", r"{\1}", rule.rule)))
    return found


def test_each_published_route_is_in_one_document(harness: AppHarness, customers: Json, operators: Json) -> None:
    listed = [[(method, path) for method, path, _ in operations_in(document)] for document in (customers, operators)]
    assert sorted(listed[0] + listed[1]) == sorted(published(harness.app))
    assert customers["openapi"] == operators["openapi"] == "3.1.0"


def test_customers_document_has_only_operations_for_customers(customers: Json) -> None:
    assert {path for path in customers["paths"] if not path.startswith("/v1/") or "openapi" in path} == set()


OPERATION_IDS = """
    listAgents createAgent getAgent updateAgent deleteAgent getAgentWidgetSettings updateAgentWidgetSettings
    listApiKeys createApiKey updateApiKey updateApiKeys deleteApiKey rotateApiKey updateFormerSecret
    listWidgetKeys createWidgetKey getWidgetKey updateWidgetKey deleteWidgetKey
    getWidgetSettings updateWidgetSettings getMe listAuditEvents
    getUsage listRequests getRequest getApiKeyUsage previewRevocation getReceipt
    listPeople endSessions blockPerson deleteBlock
    getWidgetConfig createGuestSession createUserToken exchangeUserToken refreshVisitorToken getVisitorTokenKeys
    verify
"""
OPERATORS_IDS = "listAccounts validateAccount getHealth getReadiness getOpenApiDocument getOperatorsOpenApiDocument"
SCHEMAS = """
    Agent AgentInput AgentPatch AgentStatus AgentWidgetSettings AgentWidgetSettingsPatch ApiKey ApiKeyBulkInput
    ApiKeyInput ApiKeyPatch BulkOutcome BulkResult KeyOutcome
    AuditEvent AuthMode Block BlockInput EndedPerson Person
    Branding BrandingPatch Category ChangedApiKey ChangedWidgetKey Credential CredentialKind
    ExchangeInput Expiry FieldProblem FormerSecret FormerSecretPatch GreetingMode GuestInput Jwk Jwks KeyLimits
    KeyLimitsInput KeyStatus Limit Limits Me NewApiKey NewWidgetKey Problem ProblemCode PublicAgent Receipt RefreshInput
    RemovedApiKey RemovedWidgetKey Role RotateInput RotatedApiKey Scope UserToken UserTokenInput Verified VisitorKind
    VisitorToken VoiceProvider WidgetAuthMode WidgetConfig WidgetKey WidgetKeyInput WidgetKeyPatch WidgetPosition
    WidgetTheme
    AddressCalls ApiKeyUsage ExplainedRequest KeyOutcomes LastCall LoggedLimit LoggedRequest CallOutcome PipelineStep
    RevocationPreview RouteCalls StepResult StoredReceipt Usage UsageGroup UsageInterval UsageLine UsageLoss UsagePoint
    WorkerTimes
"""


def test_names_in_generated_clients_are_stable(customers: Json, operators: Json) -> None:
    """Programs that use a generated client call these names. Add names; a renamed or removed one breaks programs."""
    assert sorted(operation["operationId"] for _, _, operation in operations_in(customers)) == sorted(
        OPERATION_IDS.split()
    )
    assert sorted(operation["operationId"] for _, _, operation in operations_in(operators)) == sorted(
        OPERATORS_IDS.split()
    )
    assert sorted(customers["components"]["schemas"]) == sorted(SCHEMAS.split())


def test_operations_state_the_scope_that_keys_need(harness: AppHarness, customers: Json) -> None:
    required = {path: {} for path in customers["paths"]}
    for method, path, operation in operations_in(customers):
        required[path][method] = scope = operation.get("x-required-scope")
        accepts_keys = {"apiKey": []} in operation["security"]
        assert (scope is not None) == (accepts_keys and path not in ("/v1/me", "/v1/verify")), (method, path)
        assert scope is None or f"`{scope}`" in operation["description"]
        codes = operation["responses"].get("403", {}).get("description", "")
        assert scope is None or "insufficient_scope" in codes, (method, path)
    assert required["/v1/agents/{agent_id}"] == {
        "get": "agents:read",
        "patch": "agents:write",
        "delete": "agents:write",
    }
    assert customers["components"]["schemas"]["Scope"]["enum"] == list(SCOPES)
    scopes = customers["components"]["schemas"]["ApiKeyInput"]["properties"]["scopes"]
    assert {"$ref": "#/components/schemas/Scope"} in [one.get("items") for one in scopes["anyOf"]]


def test_operations_describe_every_refusal_of_a_credential(customers: Json) -> None:
    codes = {refusal.code for refusal in Refused.__subclasses__()}
    assert {"revoked_credential", "rotated_credential", "session_ended"} <= codes
    responses = customers["paths"]["/v1/agents"]["get"]["responses"].values()
    described = " ".join(response["description"] for response in responses)
    assert {code for code in codes if f"`{code}`" not in described} == set()


def test_two_operations_with_one_name_are_an_error(harness: AppHarness) -> None:
    operations = openapi.operations_of(harness.app)
    twice = [operations[0], dataclasses.replace(operations[1], operation_id=operations[0].operation_id)]
    with pytest.raises(openapi.DuplicateName, match=operations[0].operation_id):
        openapi.document(openapi.CUSTOMERS, twice, API_BLUEPRINTS, "1", "https://api.example.com")


def test_servers_name_the_public_url(harness: AppHarness, customers: Json, operators: Json) -> None:
    public_url = harness.services.widget.public_url
    for document in (customers, operators):
        assert [server["url"] for server in document["servers"]] == [public_url]


def test_problems_are_the_only_content_of_errors(customers: Json, operators: Json) -> None:
    for document in (customers, operators):
        for _, path, operation in operations_in(document):
            for status, response in operation["responses"].items():
                if status >= "400" and (path, status) != ("/readyz", "503"):
                    assert list(response["content"]) == ["application/problem+json"], (path, status)


def test_optional_fields_of_bodies_have_no_default(customers: Json) -> None:
    """openapi-typescript treats a field with a `default` as required."""
    for name, schema in customers["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert "default" not in described, (name, field)
    status = customers["components"]["schemas"]["AgentInput"]["properties"]["status"]
    assert status["x-default"] == "draft"
    assert status["description"].endswith("Default: `draft`.")


def test_every_parameter_is_described(customers: Json, operators: Json) -> None:
    for document in (customers, operators):
        for method, path, operation in operations_in(document):
            for parameter in operation["parameters"]:
                assert parameter["description"], (method, path, parameter["name"])


def test_every_list_describes_its_pages(customers: Json, operators: Json) -> None:
    for document in (customers, operators):
        for method, path, operation in operations_in(document):
            success = next(response for status, response in operation["responses"].items() if status < "300")
            schema = success.get("content", {}).get("application/json", {}).get("schema", {})
            if schema.get("type") == "array":
                pages = operation["x-pagination"]
                assert {"X-Next-Cursor", "Link"} <= set(success["headers"]), (method, path)
                assert success["links"]["nextPage"] == {
                    "operationId": operation["operationId"],
                    "parameters": {pages["cursor"]["name"]: pages["nextCursor"]},
                }
                assert {pages["cursor"]["name"], pages["limit"]["name"]} <= {
                    parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"
                }


def test_described_pages_lead_to_every_item_once(harness: AppHarness, customers: Json) -> None:
    new_account(harness.services, "paged")
    caller = harness.bearer(harness.new_key("paged"))
    made = {caller.post("/v1/agents", {"name": f"Agent {number}"}).get_json()["id"] for number in range(5)}
    pages = customers["paths"]["/v1/agents"]["get"]["x-pagination"]
    header = pages["nextCursor"].removeprefix("$response.header.")
    found: list[str] = []
    query = f"{pages['limit']['name']}=2"
    while True:
        response = caller.get(f"/v1/agents?{query}")
        found += [agent["id"] for agent in response.get_json()]
        if header not in response.headers:
            break
        query = f"{pages['limit']['name']}=2&{pages['cursor']['name']}={response.headers[header]}"
    assert "Link" not in response.headers
    assert len(found) == 5
    assert set(found) == made


def test_created_resources_link_to_all_their_operations(harness: AppHarness) -> None:
    paths = harness.caller().get("/v1/openapi.json").get_json()["paths"]
    for path in ("/v1/agents", "/v1/api-keys", "/v1/widget-keys"):
        beneath = {
            methods["operationId"]
            for at, ops in paths.items()
            if at.startswith(f"{path}/{{")
            for methods in ops.values()
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


def test_readiness_documents_its_503_response(operators: Json) -> None:
    responses = operators["paths"]["/readyz"]["get"]["responses"]
    assert responses["503"]["content"]["application/json"] == responses["200"]["content"]["application/json"]
