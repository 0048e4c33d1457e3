"""The environment of a development run: options, settings, ports and external servers, and the errors in them."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import private_folder
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.environment import development_environment, write_for_other_shells
from kataven.dev.external import require_postgres, require_redis
from kataven.dev.options import read_options
from kataven.dev.ports import free_port, require_free_port, responds
from kataven.settings import load
from tests.support.servers import mode

ISSUER = "http://127.0.0.1:8001"


def test_empty_environment_gives_the_documented_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = read_options({"PORT": "", "WORKERS": "", "KATAVEN_DATA_DIR": "", "KATAVEN_DATABASE_URL": ""})
    assert (options.data_dir, options.port, options.workers) == (tmp_path / ".kataven", 8000, 2)
    assert (options.database_url, options.redis_url) == (None, None)


def test_environment_overrides_the_defaults(tmp_path: Path) -> None:
    given = {
        "PORT": "9000",
        "WORKERS": "4",
        "KATAVEN_DATA_DIR": str(tmp_path),
        "KATAVEN_DATABASE_URL": "postgresql://user:secret@db/system",
        "KATAVEN_REDIS_URL": "redis://:secret@cache",
    }
    options = read_options(given)
    assert (options.data_dir, options.port, options.workers) == (tmp_path, 9000, 4)
    assert options.database_url == given["KATAVEN_DATABASE_URL"]
    assert options.redis_url == given["KATAVEN_REDIS_URL"]
    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    "value", ["0", "-1", "+1", "65536", "8000.0", "eight", "\uff18\uff10", "1" * 5000, " 80", "0x50"]
)
def test_invalid_port_is_reported(value: str) -> None:
    with pytest.raises(DevError) as rejected:
        read_options({"PORT": value})
    assert str(rejected.value) == f"PORT: must be a whole number from 1 to 65535, not {value[:20]!r}"


def test_all_invalid_values_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DevError) as rejected:
        read_options({"PORT": "x", "WORKERS": "65", "KATAVEN_DATA_DIR": str(tmp_path / "file")})
    assert [line.partition(":")[0] for line in str(rejected.value).splitlines()] == [
        "KATAVEN_DATA_DIR",
        "PORT",
        "WORKERS",
    ]


def test_data_folder_with_a_line_break_is_rejected() -> None:
    with pytest.raises(DevError, match="KATAVEN_DATA_DIR: must not contain control characters"):
        read_options({"KATAVEN_DATA_DIR": "/one\nKATAVEN_ENV=production"})


def test_port_in_use_is_reported_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DevError, match=f"^PORT: port {port} is in use; .* choose another PORT$"):
            require_free_port(port, "PORT")
        assert free_port(port) != port
    require_free_port(port, "PORT")
    assert free_port(port) == port
    assert free_port(65_536) <= 65_535


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        pass


def test_responds_requires_status_200(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert responds(port, "/healthz")
        assert not responds(port, "/other")
        server.shutdown()
    assert not responds(port, "/healthz")


def _environment(data_dir: Path, **given: str) -> dict[str, str]:
    environ = {"KATAVEN_DATA_DIR": str(data_dir), **given}
    return development_environment(environ, read_options(environ), ISSUER)


URLS = {"KATAVEN_DATABASE_URL": "postgresql+psycopg2:///kataven_system", "KATAVEN_REDIS_URL": "unix:///redis.sock"}


def test_development_environment_is_valid_for_the_product(tmp_path: Path) -> None:
    environ = _environment(tmp_path, PATH="/bin", PORT="9000")
    settings = load(environ | URLS)
    assert settings.development
    assert settings.oidc_issuer == ISSUER
    assert settings.data_dir == tmp_path
    assert (environ["PATH"], environ["PORT"], environ["WORKERS"]) == ("/bin", "9000", "2")
    assert environ["KATAVEN_PEPPERS"].startswith("dev1:")


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    first, second = _environment(tmp_path), _environment(tmp_path)
    assert first == second
    assert first["KATAVEN_WIDGET_SIGNING_KEYS"] != first["KATAVEN_PEPPERS"]
    for path in tmp_path.iterdir():
        assert mode(path) == 0o600
    other = _environment(private_folder(tmp_path / "other"))
    for name in ("KATAVEN_PEPPERS", "KATAVEN_WIDGET_SIGNING_KEYS"):
        assert other[name] != first[name]


def test_peppers_from_the_environment_are_used(tmp_path: Path) -> None:
    ring = f"dev2:{'A' * 43},dev1:{'B' * 43}"
    assert _environment(tmp_path, KATAVEN_PEPPERS=ring)["KATAVEN_PEPPERS"] == ring
    assert not (tmp_path / "peppers").exists()


def test_invalid_settings_are_reported_before_servers_start(tmp_path: Path) -> None:
    with pytest.raises(DevError) as rejected:
        _environment(tmp_path, KATAVEN_DATABASE_URL="mysql://me:secret@db/x", KATAVEN_REDIS_URL="http://r", PORT="8000")
    assert "KATAVEN_DATABASE_URL: must be PostgreSQL" in str(rejected.value)
    assert "KATAVEN_REDIS_URL: must start with" in str(rejected.value)
    assert "secret" not in str(rejected.value)


def test_env_file_contains_only_the_products_variables(tmp_path: Path) -> None:
    environ = _environment(tmp_path, PATH="/bin", AWS_SECRET_ACCESS_KEY="not ours") | URLS
    write_for_other_shells(environ, tmp_path / "env")
    assert mode(tmp_path / "env") == 0o600
    lines = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert lines == {name: value for name, value in environ.items() if name.startswith("KATAVEN_")}


def test_reachable_external_servers_are_accepted(postgres: EmbeddedPostgres, redis_url: str) -> None:
    require_postgres(postgres.url("postgres"))
    require_postgres(postgres.url("missing"))
    require_redis(redis_url)


def test_unreachable_external_servers_are_reported_without_passwords() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DevError, match=r"^KATAVEN_DATABASE_URL: .*Connection refused") as rejected:
        require_postgres(f"postgresql://me:pass-word@127.0.0.1:{port}/system")
    assert "pass-word" not in str(rejected.value)
    with pytest.raises(DevError, match=r"^KATAVEN_REDIS_URL: .*Connection refused") as rejected:
        require_redis(f"redis://:pass-word@127.0.0.1:{port}/0")
    assert "pass-word" not in str(rejected.value)


def test_pooler_that_rejects_the_options_is_reported() -> None:
    """PgBouncer with its default configuration. Previously `make run` failed later, with SQLAlchemy's traceback."""
    refusal = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while (startup := connection.recv(4_096)) == TLS_ASKED:
                connection.sendall(b"N")
            if b"options\0" in startup:
                connection.sendall(b"E" + (len(refusal) + 4).to_bytes(4, "big") + refusal)
            else:  # authenticated and ready
                connection.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
                connection.recv(4_096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"postgresql://me:pass-word@127.0.0.1:{listener.getsockname()[1]}/system?gssencmode=disable"
        with pytest.raises(DevError) as rejected:
            require_postgres(url)
        thread.join()
    message = str(rejected.value)
    assert message.startswith("KATAVEN_DATABASE_URL: ")
    assert "unsupported startup parameter: options" in message
    assert "set KATAVEN_DIRECT_DATABASE_URL to the URL of PostgreSQL itself" in message
    assert len(message.splitlines()) == 1
    assert "pass-word" not in message


TLS_ASKED = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


@pytest.mark.parametrize("url", ["redis://a:1,b:2/0", "redis://localhost/0?socket_timeout=9"])
def test_unusable_redis_url_is_reported(url: str) -> None:
    with pytest.raises(DevError, match=r"^KATAVEN_REDIS_URL: (names several servers|has the unknown option)"):
        require_redis(url)
