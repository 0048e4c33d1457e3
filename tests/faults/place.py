"""The product with its own dependencies, each behind a proxy, and with callers."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import app as factory
from kataven import settings
from kataven.account import api_keys
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import ALICE
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.operations.account_creation import NewAccount
from kataven.system import limits, servers
from kataven.system.suitability import server_url
from kataven.web.services import EXTENSION, Services
from tests.faults.dependency import Dependency
from tests.faults.load import Ask, Load
from tests.support.app_harness import PLENTY, TESTER, environ_for
from tests.support.auth_service import Service, remote_environ
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.oidc import IssuerProcess, IssuerWithPen
from tests.support.proxy import Proxy
from tests.tenancy.conftest import scratch_server

DEADLINE_SECONDS = 20.0
"""No request takes longer, whatever fails: docs/operations.md."""
KEYS = 600


@dataclass
class Place:
    """The API with two workers, its dependencies by name, and the callers by the columns of the table."""

    api: Gunicorn
    dependencies: dict[str, Dependency]
    callers: dict[str, Ask]

    def load(self) -> Load:
        return Load(self.api.url, self.callers, DEADLINE_SECONDS)

    def workers(self) -> set[str]:
        master = self.api.process.pid
        return set(Path(f"/proc/{master}/task/{master}/children").read_text().split())


@contextmanager
def opened_place(folder: Path, *, with_auth_service: bool) -> Iterator[Place]:
    """Acme's database is on its own server, globex's on another, and the system database on a third."""
    with ExitStack() as stack:
        postgres = {name: stack.enter_context(scratch_server()) for name in ("system", "acme", "globex")}
        redis = EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "redis", persistent=False)
        redis.start()
        stack.callback(redis.stop)
        issuer = IssuerWithPen(folder / "issuer", port=free_port())
        issuer_process = IssuerProcess(issuer, folder / "issuer")
        issuer_process.start()
        stack.callback(issuer_process.stop)
        proxies = {name: stack.enter_context(Proxy(_socket(server))) for name, server in postgres.items()}
        proxies["redis"] = stack.enter_context(Proxy(Path(redis.url.removeprefix("unix://").partition("?")[0])))
        environ = environ_for(postgres["system"], redis.url, issuer.url, "kataven_system")
        environ["KATAVEN_HOST_SLOTS_DIR"] = str(folder / "slots")
        keys = _furnish(environ, {name: proxies[name] for name in ("acme", "globex")})
        environ["KATAVEN_DATABASE_URL"] = _through(proxies["system"], "kataven_system")
        environ["KATAVEN_REDIS_URL"] = f"redis://127.0.0.1:{proxies['redis'].port}"
        dependencies = {
            "system database": Dependency(postgres["system"], proxies["system"], _pid_of(postgres["system"])),
            "account's database": Dependency(postgres["acme"], proxies["acme"], _pid_of(postgres["acme"])),
            "Redis": Dependency(redis, proxies["redis"], _pid_of(redis)),
            # Nobody keeps a connection to it, so that there is none to be half-open.
            "OIDC issuer": Dependency(issuer_process, None, lambda: issuer_process.pid),
        }
        if with_auth_service:
            address = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "auth.sock"
            service = stack.enter_context(Service(environ, folder / "auth.log", f"unix:{address}"))
            proxies["auth"] = stack.enter_context(Proxy(address))
            environ = remote_environ(environ, f"127.0.0.1:{proxies['auth'].port}")
            dependencies["auth-service"] = Dependency(service, proxies["auth"], lambda: service.process.pid)
        api = stack.enter_context(Gunicorn(environ, folder / "api.log", workers=2))
        yield Place(api, dependencies, _callers(keys, issuer))


def _socket(server: EmbeddedPostgres) -> Path:
    return Path(server.url("x").rpartition("host=")[2].replace("%2F", "/")) / ".s.PGSQL.5432"


def _through(proxy: Proxy, database: str) -> str:
    return f"postgresql+psycopg2://kataven@127.0.0.1:{proxy.port}/{database}"


def _pid_of(server: EmbeddedPostgres | EmbeddedRedis) -> Callable[[], int]:
    def pid() -> int:
        assert server._child is not None
        return server._child.pid

    return pid


def _furnish(environ: dict[str, str], proxies: dict[str, Proxy]) -> dict[str, list[str]]:
    """Both accounts, with many keys for acme and one for globex."""
    account_creation.prepare_system(environ["KATAVEN_DATABASE_URL"])
    services: Services = factory.create_api(settings.load(environ)).extensions[EXTENSION]
    keys: dict[str, list[str]] = {}
    for account, proxy in proxies.items():
        servers.add(services.directory.database, account, server_url(_through(proxy, "")), actor="test")
        new = NewAccount(account, account, f"org-{account}", account)
        account_creation.create(services.directory.database, new, actor="test")
        with services.directory.database.writing() as session:
            limits.change(session, account, PLENTY)
        record = services.directory.read(account)
        assert record is not None
        with services.registry.writing(record.tenant) as session:
            count = KEYS if account == "acme" else 1
            issued = [services.issuer.issue(TokenKind.API_KEY, account) for _ in range(count)]
            for one in issued:
                api_keys.issue(session, "test", one, None, TESTER)
        keys[account] = [one.text for one in issued]
    services.stop()
    return keys


def _callers(keys: dict[str, list[str]], issuer: IssuerWithPen) -> dict[str, Ask]:
    known, *new = keys["acme"]
    fresh = itertools.cycle(new)
    people = itertools.count()

    def bearing(token: str, account: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"} | ({} if account is None else {"X-Account-ID": account})

    def person() -> dict[str, str]:
        return bearing(issuer.token(ALICE, claims={"jti": str(next(people))}), "acme")

    return {
        "known key": lambda client: client.get("/v1/agents", headers=bearing(known)),
        "new key": lambda client: client.get("/v1/agents", headers=bearing(next(fresh))),
        "another account's key": lambda client: client.get("/v1/agents", headers=bearing(keys["globex"][0])),
        "new JWT": lambda client: client.get("/v1/me", headers=person()),
        "/readyz": lambda client: client.get("/readyz"),
    }
