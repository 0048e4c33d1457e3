"""Settings: all problems are reported together, with the variable's name and without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kataven import settings
from kataven.settings import SettingsError

PEPPER = "bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4"
GOOD = {
    "KATAVEN_DATABASE_URL": "postgresql+psycopg2://hub:hunter2@db.example/kataven_system",
    "KATAVEN_REDIS_URL": "rediss://:hunter2@redis.example",
    "KATAVEN_PEPPERS": f"2026a:{PEPPER}",
    "KATAVEN_OIDC_ISSUER": "https://login.example.com",
    "KATAVEN_OIDC_AUDIENCE": "kataven",
}


def problems(**changes: str | None) -> list[str]:
    environ = {**GOOD, **{f"KATAVEN_{name}": value for name, value in changes.items()}}
    try:
        settings.load({name: value for name, value in environ.items() if value is not None})
    except SettingsError as error:
        return error.problems
    return []


def test_production_is_the_default_environment() -> None:
    assert settings.load(GOOD).env == "production"


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(SettingsError) as error:
        settings.load({"KATAVEN_TRUSTED_PROXIES": "-1"})
    named = {problem.partition(":")[0] for problem in error.value.problems}
    assert named == {*GOOD, "KATAVEN_TRUSTED_PROXIES"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, "KATAVEN_DATABASE_URL: must be PostgreSQL"),
        ({"DATABASE_URL": "not a url"}, "KATAVEN_DATABASE_URL: is not a database URL"),
        ({"DATABASE_URL": "postgresql://db.example"}, "KATAVEN_DATABASE_URL: must name the system database"),
        ({"DIRECT_DATABASE_URL": "mysql://x/kataven_system"}, "KATAVEN_DIRECT_DATABASE_URL: must be PostgreSQL"),
        ({"DIRECT_DATABASE_URL": "postgresql://db/other"}, "KATAVEN_DIRECT_DATABASE_URL: must name the same database"),
        (
            {
                "DATABASE_URL": "postgresql://pooler/kataven_system?options=-c%20work_mem%3D2MB",
                "DIRECT_DATABASE_URL": "postgresql://db/kataven_system",
            },
            "KATAVEN_DATABASE_URL: has `options`, which poolers refuse",
        ),
        ({"REDIS_URL": "http://x"}, "KATAVEN_REDIS_URL: must start with"),
        ({"REDIS_URL": "redis+cluster://x/1"}, "KATAVEN_REDIS_URL: selects a database"),
        ({"REDIS_URL": "redis+sentinel://x"}, "KATAVEN_REDIS_URL: doesn't name the service"),
        ({"REDIS_URL": "redis://a:1,b:2/0"}, "KATAVEN_REDIS_URL: names several servers"),
        ({"REDIS_URL": "redis://a:1:2/0"}, "KATAVEN_REDIS_URL: has a host that can't be parsed"),
        ({"REDIS_URL": "redis://a:0/0"}, "KATAVEN_REDIS_URL: has a port that is not"),
        ({"REDIS_URL": "redis://a:70000"}, "KATAVEN_REDIS_URL: has a port that is not"),
        ({"REDIS_URL": "redis://a/kataven"}, "KATAVEN_REDIS_URL: has a path that is not"),
        ({"REDIS_URL": "redis://a?db=x"}, "KATAVEN_REDIS_URL: has a 'db' that is not"),
        ({"REDIS_URL": "redis://a?socket_timeout=60"}, "KATAVEN_REDIS_URL: has the unknown option 'socket_timeout'"),
        ({"REDIS_URL": "rediss://a?ssl_cert_reqs=none"}, "KATAVEN_REDIS_URL: has the unknown option 'ssl_cert_reqs'"),
        ({"REDIS_URL": "rediss://a?ssl_ca_certs=/nowhere.pem"}, "KATAVEN_REDIS_URL: names a TLS file that"),
        ({"REDIS_URL": "redis://[::1"}, "KATAVEN_REDIS_URL: is not a URL"),
        ({"REDIS_URL": "unix://run/redis.sock"}, "KATAVEN_REDIS_URL: must contain the absolute path of the socket"),
        ({"PEPPERS": "2026a:c2hvcnQ"}, "KATAVEN_PEPPERS: pepper 2026a must have at least 32"),
        ({"PEPPERS": f"dev1:{PEPPER}"}, "KATAVEN_PEPPERS: contains a development pepper"),
        ({"PEPPERS": f"2026a:{PEPPER},dev1:{PEPPER}"}, "KATAVEN_PEPPERS: contains a development pepper"),
        ({"PEPPERS": None}, "KATAVEN_PEPPERS: is missing"),
        ({"WIDGET_SIGNING_KEYS": f"2026a:{PEPPER}x"}, "KATAVEN_WIDGET_SIGNING_KEYS: signing key '2026a' is"),
        ({"WIDGET_SIGNING_KEYS": f"dev1:{PEPPER}"}, "KATAVEN_WIDGET_SIGNING_KEYS: contains a development key"),
        (
            {"WIDGET_SIGNING_KEYS": f"2026a:{PEPPER},dev1:{PEPPER}"},
            "KATAVEN_WIDGET_SIGNING_KEYS: contains a development",
        ),
        ({"PUBLIC_URL": "http://api.example.com"}, "KATAVEN_PUBLIC_URL: must be an https URL"),
        ({"PUBLIC_URL": "http://127.0.0.1:8000"}, "KATAVEN_PUBLIC_URL: must be an https URL"),
        ({"PUBLIC_URL": "https://api.example.com/"}, "KATAVEN_PUBLIC_URL: must contain only a scheme and a host"),
        ({"PUBLIC_URL": "https://[::1"}, "KATAVEN_PUBLIC_URL: must be an https URL"),
        ({"PUBLIC_URL": "api.example.com"}, "KATAVEN_PUBLIC_URL: must be an https URL"),
        # urlsplit removes line breaks; `security.txt`, headers and the `iss` claim would contain them.
        ({"PUBLIC_URL": "https://api.example.com\n"}, "KATAVEN_PUBLIC_URL: contains a space or a control character"),
        ({"PUBLIC_URL": "https://a.example\nPolicy:x"}, "KATAVEN_PUBLIC_URL: contains a space or a control character"),
        ({"HUB_URL": "https://hub .example.com"}, "KATAVEN_HUB_URL: contains a space or a control character"),
        ({"VOICE_URL": "wss://voice\t.example.com"}, "KATAVEN_VOICE_URL: contains a space or a control character"),
        ({"PUBLIC_URL": "https://api.example.com:https"}, "KATAVEN_PUBLIC_URL: must be an https URL"),
        ({"PUBLIC_URL": "https://user:secret@a.example"}, "KATAVEN_PUBLIC_URL: must contain only a scheme and a host"),
        ({"VOICE_URL": "ws://voice.example.com"}, "KATAVEN_VOICE_URL: must be an https URL"),
        ({"AUTH_SERVICE": "auth:50051"}, "KATAVEN_PEPPERS: must not be set together with KATAVEN_AUTH_SERVICE"),
        ({"OIDC_ISSUER": "http://login.example.com"}, "KATAVEN_OIDC_ISSUER: must be an https URL"),
        ({"OIDC_ISSUER": "https://localhost:8001"}, "KATAVEN_OIDC_ISSUER: is on this machine"),
        ({"OIDC_ISSUER": "http://127.0.0.1:8001"}, "KATAVEN_OIDC_ISSUER: must be an https URL"),
        ({"OIDC_AUDIENCE": ""}, "KATAVEN_OIDC_AUDIENCE: is missing"),
        ({"ENV": "staging"}, "KATAVEN_ENV:"),
        ({"LEASE_SECONDS": "100"}, "KATAVEN_LEASE_SECONDS:"),
    ],
)
def test_a_problem_names_its_variable_and_the_accepted_values(changes: Mapping[str, str | None], problem: str) -> None:
    found = problems(**changes)
    assert [one for one in found if one.startswith(problem)], found
    assert len(found) == 1


def test_messages_contain_no_secret() -> None:
    messages = "\n".join(
        problems(
            DATABASE_URL="mysql://hub:hunter2@db/x",
            REDIS_URL="http://:hunter2@r",
            PEPPERS="2026a:hunter2",
            WIDGET_SIGNING_KEYS="x:hunter2",
        )
    )
    assert messages
    assert "hunter2" not in messages
    assert "hunter2" not in repr(settings.load(GOOD))
    assert PEPPER not in repr(settings.load({**GOOD, "KATAVEN_WIDGET_SIGNING_KEYS": f"2026a:{PEPPER}"}))


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://redis:6379/",
        "redis://user:pass,word@redis.internal:6379/3",
        "redis://:secret@[::1]:6379/0",
        "rediss://redis.example:6380?client_name=kataven&ssl_check_hostname=true",
        "unix:///run/redis/redis.sock?db=0&password=hunter2",
        "unix://user:hunter2@/run/redis/redis.sock",
    ],
)
def test_every_form_of_a_redis_url_with_one_server_is_accepted(url: str) -> None:
    assert problems(REDIS_URL=url) == []


def test_a_bare_postgresql_url_means_psycopg2() -> None:
    for scheme in ("postgresql", "postgresql+psycopg2"):
        loaded = settings.load({**GOOD, "KATAVEN_DATABASE_URL": f"{scheme}://u:p@db/kataven_system"})
        assert loaded.database_url.get_secret_value() == "postgresql+psycopg2://u:p@db/kataven_system"


def test_development_accepts_local_urls_and_development_keys() -> None:
    local = {"OIDC_ISSUER": "http://127.0.0.1:8001", "PUBLIC_URL": "http://localhost:8000"}
    keys = {"PEPPERS": f"dev1:{PEPPER}", "WIDGET_SIGNING_KEYS": f"dev1:{PEPPER}"}
    assert problems(ENV="development", **local, **keys) == []


def test_the_voice_url_can_be_an_https_or_a_websocket_url() -> None:
    for url in ("https://voice.example.com/v2", "wss://voice.example.com"):
        assert problems(VOICE_URL=url) == []


def test_another_shell_uses_the_environment_of_make_run(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("KATAVEN_ENV=development\nKATAVEN_DATABASE_URL=postgresql:///x\n")
    found = settings.development_environ({"KATAVEN_DATA_DIR": str(tmp_path), "HOME": "/"})
    assert found["KATAVEN_DATABASE_URL"] == "postgresql:///x"
    assert found["HOME"] == "/"


@pytest.mark.parametrize("given", [{"KATAVEN_ENV": "production"}, {"KATAVEN_DATABASE_URL": "postgresql:///mine"}])
def test_an_environment_with_its_own_settings_is_unchanged(tmp_path: Path, given: Mapping[str, str]) -> None:
    (tmp_path / "env").write_text("KATAVEN_ENV=development\nKATAVEN_DATABASE_URL=postgresql:///x\n")
    environ = {**given, "KATAVEN_DATA_DIR": str(tmp_path)}
    assert settings.development_environ(environ) == environ


def test_the_slots_folder_must_belong_to_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        found = problems(HOST_SLOTS_DIR=str(tmp_path / name))
        assert len(found) == 1
        assert found[0].startswith("KATAVEN_HOST_SLOTS_DIR: ")
    assert problems(HOST_SLOTS_DIR=str(tmp_path)) == problems(HOST_SLOTS_DIR=str(tmp_path / "new")) == []


def test_role_claims_include_the_projects_own_claim_by_default() -> None:
    short, named = "urn:zitadel:iam:org:project:roles", "urn:zitadel:iam:org:project:4711:roles"
    environ = {**GOOD, "KATAVEN_OIDC_AUDIENCE": "4711"}
    assert settings.load(environ).oidc_role_claims == (short, named)
    assert settings.load({**environ, "KATAVEN_OIDC_ROLE_CLAIMS": named}).oidc_role_claims == (named,)


def test_the_list_of_clients_must_contain_the_hub() -> None:
    assert settings.load(GOOD).oidc_client_ids == ()
    given = {"OIDC_CLIENT_IDS": " 1234, 5678 ,", "HUB_CLIENT_ID": "5678"}
    assert problems(**given) == []
    assert problems(OIDC_CLIENT_IDS="1234") == []
    (problem,) = problems(**{**given, "HUB_CLIENT_ID": "9"})
    assert problem.startswith("KATAVEN_OIDC_CLIENT_IDS: must contain KATAVEN_HUB_CLIENT_ID")
    (problem,) = problems(OIDC_CLIENT_IDS=" , ")
    assert problem.startswith("KATAVEN_OIDC_CLIENT_IDS: lists no client")
