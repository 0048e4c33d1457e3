"""The samples of the reference work: each is generated from the document and sent to a running API.

The operations come from the OpenAPI documents. tests/support/walk.py has the rows that each one needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web import reference
from kataven.web.docs import python_sdk, samples
from kataven.web.docs.examples import VALUES, Examples, is_shortened, model_name
from kataven.web.docs.samples import JWT_VARIABLE, KEY_VARIABLE, SampleRequest
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn
from tests.support.walk import REQUESTS, Request, World
from tools.openapi.print_document import openapi_document

Json = dict[str, Any]

DOCUMENTS = [openapi_document(), openapi_document(reference.OPERATORS_EXTENSION)]
SCHEMAS = {name: schema for document in DOCUMENTS for name, schema in document["components"]["schemas"].items()}
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation)
    for document in DOCUMENTS
    for path, methods in document["paths"].items()
    for method, operation in methods.items()
}
WALK = {(method, re.sub(r"<(?:string:)?(\w+)>", r"{\1}", rule)): build for (method, rule), build in REQUESTS.items()}
HEAD = ACCOUNT_SCHEMA.head


@pytest.fixture(scope="module")
def world(harness: AppHarness, postgres: EmbeddedPostgres) -> World:
    return World(harness, postgres, "sampled", HEAD)


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("samples") / "log", workers=1) as running:
        yield running


def real_request(name: str, world: World) -> SampleRequest:
    """The example of an operation, with ids and secrets of the world instead of the examples'."""
    method, path, operation = OPERATIONS[name]
    example = samples.request_of(method, path, operation, Examples(SCHEMAS))
    assert (method, path) in WALK, f"{name}: add its request to tests/support/walk.py"
    walked: Request = WALK[method, path](world)
    url = urlsplit(walked.path)
    found = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)), url.path)
    assert found is not None, (path, walked.path)
    query, body = dict(parse_qsl(url.query)), walked.body or {}
    return dataclasses.replace(
        example,
        path_parameters=found.groupdict(),
        query={one: real(one, value, query, world) for one, value in example.query.items()},
        body=None
        if example.body is None
        else {one: real(one, value, body, world) for one, value in example.body.items()},
        account=world.account,
    )


def real(name: str, value: Any, walked: Any, world: World) -> Any:
    """The value of the example, unless it is an id or a secret."""
    if is_shortened(value):
        assert name in walked, f"{name}: tests/support/walk.py has no value for it"
        return walked[name]
    if name == "ids":
        return walked[name]
    return walked.get(name, world.agent_id) if name == "agent_id" else value


def environ_of(world: World, server: Gunicorn, folder: Path) -> dict[str, str]:
    key, jwt = (caller.headers["Authorization"].removeprefix("Bearer ") for caller in (world.key, world.owner))
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return {
        KEY_VARIABLE: key,
        JWT_VARIABLE: jwt,
        "KATAVEN_BASE_URL": f"{server.url}/v1",
        "CURL_HOME": str(folder),
        "PATH": os.environ["PATH"],
        "NO_PROXY": "*",
    }


def success_of(operation: Json) -> tuple[str, Json | None]:
    """The status of the successful response, and its schema."""
    status, response = next(one for one in operation["responses"].items() if one[0] < "300")
    return status, response.get("content", {}).get("application/json", {}).get("schema")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_field_has_an_example(name: str) -> None:
    """Add `examples=[…]` to the field of the model, or a line to `VALUES` in kataven/web/docs/examples.py."""
    method, path, operation = OPERATIONS[name]
    examples = Examples(SCHEMAS)
    samples.request_of(method, path, operation, examples)
    _, schema = success_of(operation)
    if schema is not None:
        examples.response(schema)
    assert examples.missing == set()


def test_every_example_value_is_used() -> None:
    fields = {name for schema in SCHEMAS.values() for name in schema.get("properties", {})}
    fields |= {parameter["name"] for _, _, operation in OPERATIONS.values() for parameter in operation["parameters"]}
    models = "\n".join(SCHEMAS)
    for key in VALUES:
        model, _, name = key.rpartition(".")
        assert name in fields, key
        assert re.search(rf"{model}(?![a-z])", models), key


@pytest.mark.parametrize("name", OPERATIONS)
def test_sample_of_curl_works_and_returns_what_the_example_shows(
    name: str, world: World, server: Gunicorn, tmp_path: Path
) -> None:
    assert shutil.which("curl"), "the samples need curl: apt-get install curl"
    operation = OPERATIONS[name][2]
    command = samples.curl(real_request(name, world), server.url)
    environ = environ_of(world, server, tmp_path)
    done = subprocess.run(["sh", "-c", command], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    _, schema = success_of(operation)
    if schema is None:
        assert done.stdout == ""
    else:
        assert_same_shape(schema, Examples(SCHEMAS).response(schema), json.loads(done.stdout), name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_sample_of_python_works(
    name: str, world: World, server: Gunicorn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = real_request(name, world)
    code = samples.python(request, python_sdk.calls().get(python_sdk.key_of(request.method, request.path)), server.url)
    for variable, value in environ_of(world, server, tmp_path).items():
        monkeypatch.setenv(variable, value)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, name, "exec"), {})  # noqa: S102  the code under test
    assert bool(printed.getvalue()) == (request.method != "DELETE")


def assert_same_shape(schema: Json, example: Any, actual: Any, where: str) -> None:
    """The example has the fields and the types of the response."""
    reference = model_name(schema)
    if reference is not None:
        return assert_same_shape(SCHEMAS[reference], example, actual, reference)
    if example is None or actual is None:
        assert any(one.get("type") == "null" for one in schema["anyOf"]), where
    elif "anyOf" in schema:
        assert_same_shape(schema["anyOf"][0], example, actual, where)
    elif schema.get("type") == "array":
        assert isinstance(example, list), where
        if example and actual:
            assert_same_shape(schema["items"], example[0], actual[0], where)
    elif schema.get("type") == "object" and "properties" in schema:
        required = set(schema.get("required", []))
        assert set(example) & required == set(actual) & required, where
        for name in set(example) & set(actual):
            assert_same_shape(schema["properties"][name], example[name], actual[name], f"{where}.{name}")
    else:
        assert isinstance(actual, type(example)) or {type(actual), type(example)} == {int, float}, where
    return None


def test_model_that_contains_itself_has_a_finite_example() -> None:
    child = {"anyOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]}
    node = {
        "type": "object",
        "properties": {"id": {"type": "string", "format": "uuid"}, "child": child, "all": {"type": "array"}},
    }
    found = Examples({"Node": node}).response({"$ref": "#/components/schemas/Node"})
    assert found["child"] == {}
    assert found["all"] == []


def test_sdk_method_of_each_operation_is_found_automatically() -> None:
    places = {python_sdk.key_of(method, path) for method, path, _ in OPERATIONS.values()}
    assert set(python_sdk.calls()) <= places
    assert python_sdk.calls()["GET", "/v1/agents"].name == "agents.list"
    assert python_sdk.calls()["PATCH", "/v1/agents/{}"].name == "agents.update"
    assert python_sdk.calls()["GET", "/v1/me"].name == "me"


def test_no_example_contains_a_valid_credential() -> None:
    for method, path, operation in OPERATIONS.values():
        request = samples.request_of(method, path, operation, Examples(SCHEMAS))
        for sample in samples.samples_of(request, operation, "https://api.example.com", generated=True):
            assert not re.search(r"(?:[sp]k_live_\w+_|[ur]t_)[0-9A-Za-z]{10}", sample.code)
