"""Two hosts with their own addresses and slots, one Redis, and two PostgreSQL servers.

The two gunicorn masters share only Redis and PostgreSQL, as hosts do.
`test_revocation_fault_scenarios.py` tests faults between them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import ALICE, CHARLIE, Persona, org_id
from kataven.operations import account_creation
from kataven.operations.account_creation import NewAccount
from kataven.system import servers
from kataven.system.suitability import server_url
from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER
from kataven.web.services import EXTENSION
from tests.support.app_harness import PLENTY, AppHarness, environ_for
from tests.support.gunicorn import Gunicorn
from tests.support.oidc import IssuerWithPen
from tests.support.servers import ask
from tests.support.waiting import wait_until
from tests.tenancy.conftest import scratch_server

pytestmark = pytest.mark.processes

WORKERS = {"127.0.0.2": 2, "127.0.0.3": 1}
ALL_WORKERS = sum(WORKERS.values())
NEAR, FAR = WORKERS
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Fleet:
    """Both hosts. acme is on the server of the system database, globex on the second server."""

    hosts: Mapping[str, Gunicorn]
    second: EmbeddedPostgres
    harness: AppHarness = field(repr=False)
    """The operator's process: on neither host, with the same configuration."""

    def workers(self, host: str, key: str, stack: ExitStack) -> Sequence[httpx2.Client]:
        """A client for each worker of a host. A connection belongs to the worker that accepted it."""
        found: dict[str, httpx2.Client] = {}

        def all_found() -> bool:
            client = stack.enter_context(self.hosts[host].client(key))
            response = client.get("/readyz", headers={MEASURE_HEADER: "1"})
            if response.json()["checks"]["lease"] == "ok":
                found.setdefault(response.headers[WORKER_HEADER], client)
            return len(found) == WORKERS[host]

        wait_until(all_found, TIMEOUT_SECONDS, lambda: sorted(found))
        return list(found.values())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        first, second = (stack.enter_context(scratch_server()) for _ in range(2))
        redis_folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "redis"
        redis = stack.enter_context(EmbeddedRedis(redis_folder, persistent=False))
        issuer = stack.enter_context(IssuerWithPen(folder / "issuer"))
        environ = environ_for(first, redis.url, issuer.url, "kataven_system")
        environ["KATAVEN_WORKERS"] = str(ALL_WORKERS)
        harness = open_harness(environ | {"KATAVEN_HOST_SLOTS_DIR": str(folder / "operator")}, issuer)
        stack.callback(harness.services.stop)
        servers.add(harness.services.directory.database, "second", server_url(second.url("")), actor="test")
        create_account(harness, "acme", "default", PLENTY)
        create_account(harness, "globex", "second", PLENTY)
        hosts = {}
        for host, workers in WORKERS.items():
            own = environ | {"KATAVEN_HOST_SLOTS_DIR": str(folder / f"slots-{host}")}
            hosts[host] = stack.enter_context(Gunicorn(own, folder / f"{host}.log", workers=workers, host=host))
        yield Fleet(hosts, second, harness)


def open_harness(environ: Mapping[str, str], issuer: IssuerWithPen) -> AppHarness:
    account_creation.prepare_system(environ["KATAVEN_DATABASE_URL"])
    application = factory.create_api(settings.load(environ))
    return AppHarness(application, application.extensions[EXTENSION], issuer, environ)


def create_account(harness: AppHarness, account: str, server: str, limits: Mapping[str, int]) -> None:
    """Creates an account on the given server."""
    new = NewAccount(account, account.title(), org_id(account), server, limits=limits)
    account_creation.create(harness.services.directory.database, new, actor="test")


@pytest.mark.parametrize(("revoker", "other"), [(NEAR, FAR), (FAR, NEAR)], ids=["through-near", "through-far"])
@pytest.mark.parametrize("person", [ALICE, CHARLIE], ids=["first-server", "second-server"])
def test_a_key_revoked_on_one_host_is_rejected_by_the_next_request_to_the_other(
    fleet: Fleet, person: Persona, revoker: str, other: str
) -> None:
    key = fleet.harness.new_key(person.account)
    with ExitStack() as stack:
        callers = [*fleet.workers(other, key, stack), *fleet.workers(revoker, key, stack)]
        for caller in callers:
            assert caller.get("/v1/agents").status_code == 200  # and cached from now on
        owner = stack.enter_context(fleet.hosts[revoker].client(fleet.harness.issuer.token(person), person.account))
        key_id = callers[0].get("/v1/me").json()["credential"]["id"]
        revoked = owner.patch(f"/v1/api-keys/{key_id}", json={"disabled": True})
        responses = [caller.get("/v1/agents") for caller in callers]
    assert revoked.status_code == 200, revoked.text
    rejected = (403, "revoked_credential")
    assert [(response.status_code, response.json()["code"]) for response in responses] == [rejected] * ALL_WORKERS
    receipt = revoked.json()["receipt"]
    assert (receipt["workers"], receipt["acknowledged"]) == (ALL_WORKERS, ALL_WORKERS)


def test_a_limit_is_exact_across_both_hosts(fleet: Fleet) -> None:
    create_account(fleet.harness, "exact", "second", PLENTY | {"per_minute": 20})
    key = fleet.harness.new_key("exact")

    def send_five_requests(host: str) -> list[int]:
        with fleet.hosts[host].client(key) as client:
            return [client.get("/v1/agents").status_code for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        counted = Counter(status for statuses in pool.map(send_five_requests, [NEAR, FAR] * 4) for status in statuses)
    assert counted == {200: 20, 429: 20}


def test_an_account_on_the_second_server_is_served_by_both_hosts(fleet: Fleet) -> None:
    key = fleet.harness.new_key("globex")
    with fleet.hosts[NEAR].client(key) as near, fleet.hosts[FAR].client(key) as far:
        assert near.post("/v1/agents", json={"name": "created near"}).status_code == 201
        assert far.post("/v1/agents", json={"name": "created far"}).status_code == 201
        seen = [{agent["name"] for agent in client.get("/v1/agents").json()} for client in (near, far)]
    assert seen == [{"created near", "created far"}] * 2
    assert set(ask(fleet.second, "SELECT name FROM agents", "globex")) == {("created near",), ("created far",)}


def test_changed_limits_reach_every_worker_of_both_hosts(fleet: Fleet) -> None:
    create_account(fleet.harness, "raised", "default", PLENTY)
    key = fleet.harness.new_key("raised")
    with ExitStack() as stack:
        callers = [caller for host in fleet.hosts for caller in fleet.workers(host, key, stack)]

        def seen() -> set[int]:
            return {caller.get("/v1/me").json()["limits"]["per_minute"]["limit"] for caller in callers}

        assert seen() == {PLENTY["per_minute"]}
        command = ["accounts", "limits", "raised", "--per-minute", "1234"]
        changed = fleet.harness.app.test_cli_runner().invoke(args=command)
        assert changed.exit_code == 0, changed.output
        # The documented time is one second; a busy machine gets more.
        wait_until(lambda: seen() == {1234}, 5, seen)
