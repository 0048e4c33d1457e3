"""Generates the samples of an operation: the request in curl, Python and TypeScript, and the response."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from kataven.web.cors import PATHS as PATHS_OF_PAGES
from kataven.web.docs.examples import ACCOUNT, ORIGIN, Examples, Json
from kataven.web.docs.python_sdk import SdkCall, calls, key_of

KEY_VARIABLE: Final = "KATAVEN_API_KEY"
JWT_VARIABLE: Final = "KATAVEN_JWT"
_ONLY_WITH_ACCEPT: Final = "`Accept: application/json`"
"""What the description of a response says if its body depends on the header."""
_SHORT: Final = 60
"""A JSON object of at most this many characters is written on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """The example of a request: what each sample sends."""

    method: str
    path: str
    """The path of the document, `/v1/agents/{agent_id}`."""
    path_parameters: dict[str, str]
    query: dict[str, Any]
    body: Json | None
    variable: str | None
    """The environment variable with the credential. None for public operations."""
    of_pages: bool
    """Whether web pages send it, so that it needs an `Origin`."""

    accepts_json: bool = False
    """Whether the request must state that it accepts JSON to receive a body."""
    account: str = ACCOUNT

    @property
    def needs_account(self) -> bool:
        return self.variable == JWT_VARIABLE

    def url(self, server: str) -> str:
        """The URL, with the example's ids and query."""
        path = self.path.format(**self.path_parameters)
        return f"{server}{path}" + (f"?{urlencode(self.query, safe=':…')}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample, and the note above it, if any."""

    language: str
    label: str
    code: str


def request_of(method: str, path: str, operation: Json, examples: Examples) -> SampleRequest:
    """The example of an operation: its required parameters, ids in the query, the page size of lists, and its body."""
    parameters: dict[str, dict[str, Any]] = {"path": {}, "query": {}}
    for one in operation["parameters"]:
        is_page_size = one["name"] == "limit" and "x-pagination" in operation
        is_sent = one.get("required") or one["name"].endswith("_id") or is_page_size
        if is_sent and one["in"] in parameters:
            parameters[one["in"]][one["name"]] = examples.parameter(one)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return SampleRequest(
        method=method.upper(),
        path=path,
        path_parameters=parameters["path"],
        query=parameters["query"],
        body=None if body is None else examples.body(body["schema"]),
        variable=_variable(operation),
        accepts_json=any(_ONLY_WITH_ACCEPT in one["description"] for one in operation["responses"].values()),
        of_pages=path in PATHS_OF_PAGES and (body is not None or bool(parameters["query"])),
    )


def _variable(operation: Json) -> str | None:
    accepted = {name for one in operation["security"] for name in one}
    if not accepted:
        return None
    return KEY_VARIABLE if "apiKey" in accepted else JWT_VARIABLE


def samples_of(request: SampleRequest, operation: Json, server: str, *, generated: bool) -> tuple[Sample, ...]:
    """The samples of a request. `generated`: whether the generated TypeScript client has the operation."""
    call = calls().get(key_of(request.method, request.path))
    return (
        Sample("sh", "curl", curl(request, server)),
        Sample("python", "Python", python(request, call, server)),
        Sample("ts", "TypeScript", typescript(request, operation, server, generated=generated)),
    )


def curl(request: SampleRequest, server: str) -> str:
    """The request as a command for a POSIX shell."""
    url = request.url(server)
    lines = [f'"{url}"' if request.query else url]
    if request.method not in {"GET", "POST"} or (request.method == "POST" and request.body is None):
        lines[0] = f"-X {request.method} {lines[0]}"
    if request.variable is not None:
        lines.append(f'-H "Authorization: Bearer ${request.variable}"')
    if request.needs_account:
        lines.append(f'-H "X-Account-ID: {request.account}"')
    if request.accepts_json:
        lines.append('-H "Accept: application/json"')
    if request.of_pages:
        lines.append(f'-H "Origin: {ORIGIN}"')
    if request.body is not None:
        lines.append('-H "Content-Type: application/json"')
        text = json.dumps(request.body, ensure_ascii=False, indent=2)
        lines.append(
            "-d '"
            + (text if len(text) > _SHORT else json.dumps(request.body, ensure_ascii=False)).replace("'", "'\\''")
            + "'"
        )
    return "curl " + " \\\n  ".join(lines)


def python(request: SampleRequest, call: SdkCall | None, server: str) -> str:
    """The request with `kataven.client`, or with an HTTP client if the SDK has no method for it."""
    arguments = None if call is None else _arguments(request, call)
    if call is None or arguments is None:
        return _python_without_sdk(request, server)
    head = "from kataven.client import KatavenClient\n\nwith KatavenClient() as kataven:"
    called = f"kataven.{call.name}({_joined(arguments, 8)})"
    if call.iterates:
        return f"{head}\n    for item in {called}:\n        print(item)"
    if request.method == "DELETE":
        return f"{head}\n    {called}"
    return f"{head}\n    print({called})" if "\n" not in called else f"{head}\n    result = {called}\n    print(result)"


def _arguments(request: SampleRequest, call: SdkCall) -> list[str] | None:
    """The arguments of the call; None if the method does not accept the example."""
    given = {**request.path_parameters, **(request.body or {})}
    query = {"page_size" if call.iterates and name == "limit" else name: value for name, value in request.query.items()}
    if not set(call.parameters) <= set(given):
        return None
    named = {name: value for name, value in given.items() if name not in call.parameters} | query
    if not call.any_field and not set(named) <= call.options:
        return None
    positional = [_literal(given[name]) for name in call.parameters]
    return positional + [f"{name}={_literal(value)}" for name, value in named.items()]


def _python_without_sdk(request: SampleRequest, server: str) -> str:
    headers = {}
    if request.variable is not None:
        headers["Authorization"] = f"f\"Bearer {{os.environ['{request.variable}']}}\""
    if request.needs_account:
        headers["X-Account-ID"] = _literal(request.account)
    if request.accepts_json:
        headers["Accept"] = _literal("application/json")
    if request.of_pages:
        headers["Origin"] = _literal(ORIGIN)
    arguments = [_literal(request.url(server))]
    if headers:
        arguments.append("headers={" + ", ".join(f'"{name}": {value}' for name, value in headers.items()) + "}")
    if request.body is not None:
        arguments.append(f"json={_literal(request.body)}")
    called = f"httpx2.{request.method.lower()}({_joined(arguments, 4)})"
    imports = "import os\n\nimport httpx2" if request.variable is not None else "import httpx2"
    shown = "" if request.method == "DELETE" else "\nprint(response.json())"
    return (
        f"# The SDK has no method for this operation.\n{imports}\n\n"
        f"response = {called}\nresponse.raise_for_status(){shown}"
    )


def _joined(arguments: list[str], indent: int) -> str:
    line = ", ".join(arguments)
    if len(line) <= _SHORT:
        return line
    pad = " " * indent
    return "\n" + "".join(f"{pad}{one},\n" for one in arguments) + pad[:-4]


def _literal(value: Any) -> str:
    """A Python literal with double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(name)}: {_literal(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def typescript(request: SampleRequest, operation: Json, server: str, *, generated: bool) -> str:
    """The request with `@kataven/client`, or with `fetch` if the client does not have the operation."""
    if not generated:
        return f"const response = await fetch('{request.url(server)}');\nconsole.log(await response.json());"
    arguments = {
        "path": request.path_parameters,
        "query": request.query,
        "headers": ({"X-Account-ID": request.account} if request.needs_account else {})
        | ({"Accept": "application/json"} if request.accepts_json else {})
        | ({"Origin": ORIGIN} if request.of_pages else {}),
        "body": request.body or {},
    }
    given = {name: value for name, value in arguments.items() if value}
    text = _object(given) if given else ""
    if len(text) > _SHORT:
        text = "{\n" + "".join(f"  {name}: {_object(value)},\n" for name, value in given.items()) + "}"
    options = f"{{ apiKey: process.env.{JWT_VARIABLE}, account: '{request.account}' }}" if request.needs_account else ""
    called = f"unwrap(kataven.{operation['operationId']}({text}))"
    shown = f"await {called};" if request.method == "DELETE" else f"console.log(await {called});"
    return (
        "import { createClient, unwrap } from '@kataven/client';\n\n"
        f"const kataven = createClient({options});\n{shown}"
    )


def _object(value: Any) -> str:
    """A TypeScript literal with single quotes."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_name(name)}: {_object(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_object, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)


def _name(name: str) -> str:
    return name if name.isidentifier() else f"'{name}'"
