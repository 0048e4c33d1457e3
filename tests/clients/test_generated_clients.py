"""Clients that customers generate from the OpenAPI document compile under strict settings and work.

`make clients` runs these tests. Each program in `programs/` lists, creates, reads and updates agents with a real API,
and receives a 400, 404, 412 and 429.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.web.docs import samples
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import Gunicorn
from tests.support.walk import World
from tests.web.test_reference_samples import HEAD, OPERATIONS, environ_of, real_request
from tools.clients import typescript_client
from tools.clients.typescript_client import PROGRAMS, run
from tools.openapi.print_document import openapi_document

pytestmark = [pytest.mark.clients, pytest.mark.node, pytest.mark.timeout(300)]

HERE = Path(__file__).parent / "programs"
TOOLS = PROGRAMS.parents[1]
STRICT: Mapping[str, Any] = {
    "target": "ES2022",
    "lib": ["ES2023", "DOM", "DOM.Iterable"],
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "skipLibCheck": True,  # the declarations of Node.js; for @kataven/client they are checked
    "types": ["node"],
    "typeRoots": [str(TOOLS / "node_modules" / "@types")],
}
NODE = {"module": "NodeNext", "moduleResolution": "NodeNext"}
BUNDLER = {"module": "ESNext", "moduleResolution": "bundler"}
EXACT = {"exactOptionalPropertyTypes": True}


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("clients") / "log") as running:
        yield running


@pytest.fixture
def environ(harness: AppHarness, server: Gunicorn) -> Iterator[dict[str, str]]:
    """The variables of a program: an account without agents, and a key that is limited to one request per minute."""
    account = f"clients-{uuid.uuid4().hex[:8]}"
    new_account(harness.services, account)
    with redirecting_server() as redirecting:
        yield {
            "KATAVEN_URL": server.url,
            "KATAVEN_API_KEY": harness.new_key(account),
            "LIMITED_KEY": harness.new_key(account, limits={"per_minute": 1}),
            "ACCOUNT": "acme",
            "JWT": harness.issuer.token(),
            "REDIRECTING_URL": redirecting,
        }


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which Node.js finds the pinned packages."""
    typescript_client.generator()  # raises if they are not installed
    path = TOOLS / "build" / uuid.uuid4().hex
    path.mkdir(parents=True)
    (path / "package.json").write_text('{"type": "module"}')
    (path / "openapi.json").write_text(json.dumps(openapi_document()))
    yield path
    shutil.rmtree(path)


def compiled(folder: Path, program: str, **options: Any) -> Path:
    """Compile a program of `programs/` with everything that it imports."""
    (folder / program).write_text((HERE / program).read_text(encoding="utf-8"), encoding="utf-8")
    settings = {**STRICT, "outDir": "out", "rootDir": ".", **options}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "files": [program]}))
    run(PROGRAMS / "tsc", "-p", ".", folder=folder)
    return folder / "out" / program.replace(".ts", ".js")


def drive(program: Path, environ: Mapping[str, str]) -> str:
    node = shutil.which("node")
    assert node is not None
    return run(node, program, folder=program.parent, environ=dict(environ))


def test_openapi_typescript_client_works(folder: Path, environ: Mapping[str, str]) -> None:
    run(PROGRAMS / "openapi-typescript", "openapi.json", "-o", "schema.ts", folder=folder)
    assert "done" in drive(compiled(folder, "openapi-fetch.ts", **NODE, **EXACT), environ)


def test_every_operation_compiles_with_openapi_fetch(folder: Path) -> None:
    run(PROGRAMS / "openapi-typescript", "openapi.json", "-o", "schema.ts", folder=folder)
    compiled(folder, "every-operation.ts", **NODE, **EXACT)
    program = (HERE / "every-operation.ts").read_text(encoding="utf-8")
    for path, methods in openapi_document()["paths"].items():
        for method in methods:
            assert f"client.{method.upper()}('{path}'" in program, f"add a call of {method} {path}"


def test_hey_api_client_works(folder: Path, environ: Mapping[str, str]) -> None:
    plugins = ("@hey-api/typescript", "@hey-api/client-fetch", "@hey-api/sdk")
    run(PROGRAMS / "openapi-ts", "-i", "openapi.json", "-o", "hey-api", "-p", *plugins, "-s", folder=folder)
    compiled(folder, "hey-api.ts", **BUNDLER, noEmit=True)
    # Without configuration, the generated modules import each other without an extension. A bundler accepts this, and
    # Node.js accepts it in CommonJS.
    program = compiled(folder, "hey-api.ts", module="CommonJS", moduleResolution="node10", esModuleInterop=True)
    (program.parent / "package.json").write_text('{"type": "commonjs"}')
    assert "done" in drive(program, environ)


def test_python_client_works(folder: Path, environ: Mapping[str, str]) -> None:
    python = TOOLS / ".venv" / "bin"
    assert python.is_dir(), "run `make tools/clients/.venv/installed`"
    log = run(
        python / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none",
        "--output-path", "kataven_hub_api_client", "--fail-on-warning", folder=folder,
        environ={"PATH": f"{python}:{Path('/usr/bin')}:{Path('/bin')}"},
    )  # fmt: skip
    assert "Warning" not in log
    program = folder / "drive.py"
    shutil.copy(HERE / "python_client.py", program)
    assert "done" in run(python / "python", "-W", "error", program, folder=folder, environ=dict(environ))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "typescript"
    ignored = shutil.ignore_patterns("dist", "generated", "*.tgz", "LICENSE")
    shutil.copytree(typescript_client.PACKAGE, folder, ignore=ignored)
    return typescript_client.build(folder)


@pytest.fixture
def installed(tarball: Path, tmp_path: Path) -> Path:
    """A clean folder with the package as its only dependency, installed without a network."""
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    npm = shutil.which("npm")
    assert npm is not None
    run(npm, "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", str(tarball), folder=tmp_path)
    return tmp_path


def test_package_contains_only_what_users_need(tarball: Path) -> None:
    with tarfile.open(tarball) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    assert {"package.json", "README.md", "LICENSE", "dist/index.js", "dist/index.d.ts"} <= names
    assert {name for name in names if not name.startswith("dist/")} == {"package.json", "README.md", "LICENSE"}


def test_types_of_the_package_resolve_for_bundlers(installed: Path) -> None:
    compiled(installed, "package.ts", **BUNDLER, skipLibCheck=False)


@pytest.mark.parametrize(
    "page", ["docs/typescript.md", "docs/index.md", "docs/how-to/handle-429.md", "clients/typescript/README.md"]
)
def test_samples_of_the_pages_compile(installed: Path, page: str) -> None:
    text = (typescript_client.ROOT / page).read_text(encoding="utf-8")
    (installed / "samples.ts").write_text("\n".join(re.findall(r"^```ts\n(.*?)^```", text, re.DOTALL | re.MULTILINE)))
    (installed / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": {**STRICT, **NODE}, "files": ["samples.ts"]})
    )
    run(PROGRAMS / "tsc", "-p", ".", "--noEmit", folder=installed)


def test_samples_of_the_reference_compile_and_run(
    installed: Path, server: Gunicorn, harness: AppHarness, postgres: EmbeddedPostgres
) -> None:
    """Each TypeScript sample of `/docs`, with ids and secrets of a real account."""
    world = World(harness, postgres, "sampled-in-node", HEAD)
    generated = {
        operation["operationId"] for methods in openapi_document()["paths"].values() for operation in methods.values()
    }
    for name, (_, _, operation) in OPERATIONS.items():
        request = real_request(name, world)
        code = samples.typescript(request, operation, server.url, generated=name in generated)
        (installed / f"{name}.ts").write_text(f"{code}\nexport {{}};\n", encoding="utf-8")
    files = [f"{name}.ts" for name in OPERATIONS]
    options = {**STRICT, **NODE, **EXACT, "outDir": "out", "rootDir": "."}
    (installed / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": files}))
    run(PROGRAMS / "tsc", "-p", ".", folder=installed)
    for name in OPERATIONS:
        drive(installed / "out" / f"{name}.js", environ_of(world, server, installed))


def test_package_works(installed: Path, environ: Mapping[str, str]) -> None:
    program = compiled(installed, "package.ts", **NODE, **EXACT, skipLibCheck=False)
    assert "done" in drive(program, environ)


@contextmanager
def redirecting_server() -> Iterator[str]:
    """The URL of a server that redirects every request to a path of its own that returns an object."""

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            redirected = self.path == "/redirected"
            self.send_response(200 if redirected else 302)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2" if redirected else "0")
            self.send_header("Location", "/redirected")
            self.end_headers()
            if redirected:
                self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
