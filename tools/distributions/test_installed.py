"""`make test-dist`: builds the distributions, installs them in clean environments, and runs the product from there.

These tests need the package index, for the dependencies, and take about a minute.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.identity import signing
from tests.support.gunicorn import free_port
from tests.support.waiting import wait_until
from tools.distributions.__main__ import CHECKOUT, PROJECTS, build
from tools.distributions.environments import RUN_SECONDS, Environment, constraints

pytestmark = pytest.mark.timeout(1800)

MEGABYTES = 1_000_000
HUB_HOST = "hub.example.com"
SDK_REQUIREMENTS = {"anyio", "h11", "httpcore2", "httpx2", "idna", "truststore", "typing_extensions"}
SERVER_PACKAGES = "application serve settings commands api hub web tenancy"

CREATE_KEY = """
import os
from kataven import settings
from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.application import build_services
from kataven.identity.token import TokenKind

services = build_services(settings.load(os.environ), "api")
tenant = services.directory.read("acme").tenant
issued = services.issuer.issue(TokenKind.API_KEY, "acme")
with services.registry.writing(tenant) as session:
    api_keys.issue(session, "test", issued, None, Actor("test:dist", "Test"))
print(issued.text)
"""

USE_SDK = """
from kataven.client import KatavenClient
with KatavenClient() as kataven:
    agent = kataven.agents.create("Front desk")
    print(kataven.me().account, *[one.name for one in kataven.agents.list()])
"""

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The built files by name and kind, such as `kataven.whl`."""
    return by_kind(build(tmp_path_factory.mktemp("dist")))


def by_kind(built: list[Path]) -> dict[str, Path]:
    return {f"{path.name.partition('-')[0]}{'.whl' if path.suffix == '.whl' else '.tar.gz'}": path for path in built}


@pytest.fixture(scope="module")
def sdk(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the SDK alone."""
    folder = tmp_path_factory.mktemp("sdk")
    environment = Environment.create(folder)
    pinned = constraints("run.txt", folder / "constraints.txt")
    environment.install("-c", pinned, str(files["kataven.whl"]), compiled=True)
    return environment


@pytest.fixture(scope="module")
def mcp(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the SDK and its extra `mcp`."""
    folder = tmp_path_factory.mktemp("mcp")
    environment = Environment.create(folder)
    environment.install("-c", constraints("test.txt", folder / "constraints.txt"), f"{files['kataven.whl']}[mcp]")
    return environment


@pytest.fixture(scope="module")
def hub(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the server, installed as docs/production.md describes: the lock, then both wheels."""
    environment = Environment.create(tmp_path_factory.mktemp("hub"))
    lock = str(CHECKOUT / "requirements" / "production.txt")
    environment.install("--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", lock)
    environment.install("--no-deps", str(files["kataven.whl"]), str(files["kataven_hub.whl"]))
    return environment


@pytest.fixture(scope="module")
def environ(hub: Environment) -> Iterator[dict[str, str]]:
    """The settings of the installed server, whose system database and account `acme` its commands created."""
    with tempfile.TemporaryDirectory(prefix="kataven-test-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            folder.chmod(0o711)  # the user that runs PostgreSQL has to reach it
        with (
            EmbeddedPostgres(folder / "postgres", fsync=False) as postgres,
            EmbeddedRedis(folder / "redis", persistent=False) as redis,
        ):
            given = {
                "KATAVEN_DATABASE_URL": postgres.url("kataven_system"),
                "KATAVEN_REDIS_URL": redis.url,
                "KATAVEN_PEPPERS": f"first:{secrets.token_urlsafe(32)}",
                "KATAVEN_WIDGET_SIGNING_KEYS": signing.new_key("first"),
                "KATAVEN_PUBLIC_URL": "https://api.example.com",
                "KATAVEN_HUB_URL": f"https://{HUB_HOST}",
                "KATAVEN_OIDC_ISSUER": "https://issuer.example.com",
                "KATAVEN_OIDC_AUDIENCE": "kataven",
                "KATAVEN_POSTGRES_PROGRAMS": str(postgres_programs()),
                "KATAVEN_HOST_SLOTS_DIR": str(folder / "slots"),
                "PORT": str(free_port()),
                "WORKERS": "1",
            }
            for words in ("migrations upgrade --system", "accounts create acme --org-id 100001"):
                command = [hub.python, "-m", "flask", "--app", "kataven.serve.wsgi:app", *words.split()]
                finished = hub.run(command, given)
                assert finished.returncode == 0, finished.stdout + finished.stderr
            yield given


@pytest.fixture(scope="module")
def key(hub: Environment, environ: dict[str, str]) -> str:
    """An API key of `acme`."""
    return hub.python_output(CREATE_KEY, environ).split()[-1]


@pytest.fixture(scope="module")
def server(hub: Environment, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of `python -m kataven.hub`, started in an empty folder."""
    log, url = tmp_path_factory.mktemp("log") / "log", f"http://127.0.0.1:{environ['PORT']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [hub.python, "-m", "kataven.hub"],
            cwd=hub.empty,
            env={"PATH": os.defpath, **environ},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: responds(f"{url}/healthz"), 300, lambda: log.read_text()[-2000:])
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def responds(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.RequestError:
        return False


def test_both_builds_have_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    again = by_kind(build(tmp_path))
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_wheels_contain_every_file_of_the_package_once(files: dict[str, Path]) -> None:
    contents = [names(files[name]) for name in ("kataven.whl", "kataven_hub.whl")]
    assert not contents[0] & contents[1]
    assert contents[0] | contents[1] == repository_files()
    assert {"kataven/__init__.py", "kataven/py.typed", "kataven/client/sync.py"} <= contents[0]


def names(wheel: Path) -> set[str]:
    """The files of a wheel without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def repository_files() -> set[str]:
    folders = {"kataven": CHECKOUT / "kataven", "kataven/alembic_scripts": CHECKOUT / "alembic"}
    return {
        f"{prefix}/{path.relative_to(folder).as_posix()}"
        for prefix, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_sdists_need_no_other_build_backend(files: dict[str, Path]) -> None:
    for name in ("kataven.tar.gz", "kataven_hub.tar.gz"):
        with tarfile.open(files[name]) as archive:
            [member] = [one for one in archive if re.fullmatch(r"[^/]+/pyproject\.toml", one.name)]
            content = archive.extractfile(member)
            assert content is not None
            project = tomllib.loads(content.read().decode())
        assert project["build-system"] == {"requires": ["setuptools>=80"], "build-backend": "setuptools.build_meta"}
        assert set(project.get("tool", {})) == {"setuptools"}


def test_editable_installation_imports_the_checkout(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, '.'); import staged_build; staged_build.build_editable(sys.argv[1])"
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT / "sdk", check=True, capture_output=True, timeout=RUN_SECONDS)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert {name for name in contents if ".dist-info/" not in name} == {"__editable__.kataven.pth"}
    assert contents["__editable__.kataven.pth"].decode() == f"{CHECKOUT}\n"
    assert any(name.endswith("/entry_points.txt") for name in contents)


def test_sdk_installs_at_most_10_mb_and_nothing_of_the_server(sdk: Environment) -> None:
    installed = json.loads(sdk.run([sdk.python, "-m", "pip", "list", "--format", "json"]).stdout)
    packages = {one["name"].replace("-", "_") for one in installed} - {"pip", "setuptools"}
    assert packages - SDK_REQUIREMENTS == {"kataven"}
    assert sdk.installed_bytes() <= 10 * MEGABYTES
    for name in SERVER_PACKAGES.split():
        assert "No module named" in sdk.run([sdk.python, "-c", f"import kataven.{name}"]).stderr


def test_sdk_imports_the_http_client_only_with_the_first_client(sdk: Environment) -> None:
    assert third_party_imports(sdk, "import kataven.client") == {"kataven"}
    create = f"import kataven.client; kataven.client.KatavenClient('sk_live_acme_{'a' * 49}')"
    assert third_party_imports(sdk, create) <= {"kataven", *SDK_REQUIREMENTS}


def third_party_imports(environment: Environment, code: str) -> set[str]:
    """The packages outside the standard library that `code` imports."""
    program = f"import sys; empty = set(sys.modules); {code}; print(*set(sys.modules) - empty)"
    imported = {name.partition(".")[0] for name in environment.python_output(program).split()}
    return imported - sys.stdlib_module_names


def test_sdk_calls_the_installed_server(sdk: Environment, server: str, key: str) -> None:
    given = {"KATAVEN_API_KEY": key, "KATAVEN_BASE_URL": f"{server}/v1"}
    assert sdk.python_output(USE_SDK, given) == "acme Front desk\n"


def test_sdk_without_the_extra_names_the_missing_package(sdk: Environment) -> None:
    finished = sdk.run([sdk.script("kataven-mcp")])
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "pip install 'mcp>=2.3,<3'" in finished.stderr


def test_mcp_server_starts_and_initializes(mcp: Environment, server: str, key: str) -> None:
    finished = mcp.run([mcp.script("kataven-mcp"), "--help"])
    assert finished.returncode == 0
    assert "MCP server with tools" in finished.stdout
    response = over_stdio(mcp, {"KATAVEN_API_KEY": key, "KATAVEN_BASE_URL": f"{server}/v1"})
    assert response["id"] == 1
    assert response["result"]["serverInfo"]["name"]
    assert "tools" in response["result"]["capabilities"]


def over_stdio(mcp: Environment, environ: Mapping[str, str]) -> dict[str, Any]:
    """The response to `initialize`."""
    process = subprocess.Popen(
        [mcp.script("kataven-mcp")],
        cwd=mcp.empty,
        env={"PATH": os.defpath, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(INITIALIZE) + "\n")
        process.stdin.flush()
        response: dict[str, Any] = json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(60)
    return response


def test_lock_satisfies_the_ranges_of_both_wheels(hub: Environment) -> None:
    finished = hub.run([hub.python, "-m", "pip", "check"])
    assert finished.returncode == 0, finished.stdout


def test_installed_server_uses_no_file_of_the_checkout(hub: Environment) -> None:
    code = "from kataven import application; from kataven.tenancy import schema; print(application.__file__, {})"
    for path in hub.python_output(code.format("schema.scripts_folder()")).split():
        assert path.startswith(str(hub.folder))


def test_every_script_has_help_without_settings(hub: Environment, mcp: Environment) -> None:
    for name, environment in (("kataven", mcp), ("kataven-hub", hub)):
        project = tomllib.loads((PROJECTS[name] / "pyproject.toml").read_text())["project"]
        for script in project.get("scripts", {}):
            finished = environment.run([environment.script(script), "--help"])
            assert finished.returncode == 0, finished.stderr
            assert script in finished.stdout


def test_installed_server_serves_the_api(server: str, key: str) -> None:
    with httpx2.Client(base_url=server, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.get("/v1/agents").status_code == 401
        agents = client.get("/v1/agents", headers={"Authorization": f"Bearer {key}"})
        assert agents.status_code == 200
        assert client.get("/docs").status_code == 200


def test_installed_server_serves_the_hub_by_host_name(server: str) -> None:
    with httpx2.Client(base_url=server, headers={"Host": HUB_HOST}, trust_env=False, follow_redirects=True) as client:
        page = client.get("/")
        assert "Kataven Hub</title>" in page.text
        found = re.search(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        assert found is not None
        assert client.get(found[1]).headers["Content-Type"].startswith("text/css")
