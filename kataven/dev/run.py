"""`make run`: every server of the product on this machine, one after the other, until Ctrl-C ends them in reverse."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from kataven.dev import dev_json
from kataven.dev.binaries import postgres_programs
from kataven.dev.dev_json import AccountKeys, DevRun
from kataven.dev.environment import development_environment, hub_url, write_for_other_shells
from kataven.dev.errors import DevError
from kataven.dev.external import require_postgres, require_redis
from kataven.dev.files import passable_folder, private_folder
from kataven.dev.launch import die_with_parent
from kataven.dev.leftovers import Mark
from kataven.dev.lock import FolderLock
from kataven.dev.options import read_options
from kataven.dev.ports import HOST, answers, free_port, require_free_port
from kataven.dev.postgres import EmbeddedPostgres
from kataven.dev.processes import Child
from kataven.dev.redis_server import EmbeddedRedis
from kataven.dev.servers import DevServers
from kataven.dev.terminal import StopRequested, complain, ignore_stop_signals, say

CHECKOUT = Path(__file__).resolve().parents[2]
SYSTEM_DATABASE = "kataven_system"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


def main(environ: Mapping[str, str]) -> int:
    """Run until StopRequested (0) or until something fails (1, with a clear line); no process is left then."""
    if "MAKELEVEL" in environ:  # a make that is killed can't pass it on
        die_with_parent(os.getppid(), signal.SIGTERM)
    try:
        with DevServers() as servers:
            try:
                DevSupervisor(environ, servers).serve()
            finally:
                ignore_stop_signals()
                if servers.started:
                    say("stopping")
    except StopRequested:
        return 0
    except DevError as error:
        complain(f"make run: {error}")
        return 1


class DevSupervisor:
    """One development run; `serve` is the order of its steps."""

    def __init__(self, environ: Mapping[str, str], servers: DevServers) -> None:
        self._given = environ
        self._servers = servers
        self._options = read_options(environ)
        self._data_dir = self._options.data_dir
        self._logs = self._data_dir / "logs"
        self._issuer_folder = self._data_dir / "issuer"
        self._issuer_mark = Mark("kataven.dev.issuer", str(self._issuer_folder))
        self._demo_mark = Mark("kataven.dev.demo", str(self._data_dir / "demo"))
        self._gunicorn_mark = Mark("gunicorn", str(self._data_dir / "gunicorn"))

    def serve(self) -> NoReturn:
        """Bring everything up, then watch it. Raises DevError, or StopRequested when a signal says so."""
        began = time.monotonic()
        self._take_data_dir()
        issuer_port = free_port(self._options.port + 1)
        issuer_url = f"http://{HOST}:{issuer_port}"
        demo_port = free_port(self._options.port + 2)
        environ = development_environment(self._given, self._options, issuer_url)
        environ["KATAVEN_DATABASE_URL"] = self._postgres()
        if not self._options.database_url:  # then a dump needs programs as new as the embedded server
            environ.setdefault("KATAVEN_POSTGRES_PROGRAMS", str(postgres_programs()))
        environ["KATAVEN_REDIS_URL"] = self._redis()
        self._tell_other_shells(environ)
        run = DevRun(
            api_url=f"http://{HOST}:{self._options.port}",
            hub_url=hub_url(self._options.port),
            database_url=environ["KATAVEN_DATABASE_URL"],
            redis_url=environ["KATAVEN_REDIS_URL"],
            oidc_issuer=issuer_url,
            # A name, so that it is another site than the API's address to the browser as well.
            widget_demo_url=f"http://localhost:{demo_port}",
            accounts=self._accounts(environ),
        )
        dev_json.write_pending(self._data_dir, run)
        self._start_issuer(environ, issuer_port)
        self._start_gunicorn(environ)
        if run.accounts:
            self._start_demo(run, demo_port)
        dev_json.publish(self._data_dir)
        say(f"ready after {time.monotonic() - began:.1f} s\n{_what_to_do(run)}")
        self._servers.watch()

    def _take_data_dir(self) -> None:
        """Hold the data folder, end what a killed run left, and see that the port is free, before anything starts."""
        say(f"data is in {passable_folder(self._data_dir)}")
        lock = FolderLock(self._data_dir)
        lock.acquire()
        self._servers.at_the_end(lock.release)
        private_folder(self._logs)
        # SIGQUIT, since the death of its supervisor has told gunicorn to wait for its workers, for half a minute maybe.
        self._gunicorn_mark.end(signal.SIGQUIT, STOP_SECONDS)
        self._issuer_mark.end(signal.SIGTERM, STOP_SECONDS)
        self._demo_mark.end(signal.SIGTERM, STOP_SECONDS)
        require_free_port(self._options.port, "PORT")
        dev_json.set_aside(self._data_dir)

    def _postgres(self) -> str:
        if self._options.database_url:
            say("using the PostgreSQL of KATAVEN_DATABASE_URL")
            require_postgres(self._options.database_url)
            return self._options.database_url
        say("starting PostgreSQL")
        server = EmbeddedPostgres(self._data_dir / "postgres", log=self._logs / "postgres.log")
        self._servers.start(server)
        return server.url(SYSTEM_DATABASE)

    def _redis(self) -> str:
        if self._options.redis_url:
            say("using the Redis of KATAVEN_REDIS_URL")
            require_redis(self._options.redis_url)
            return self._options.redis_url
        say("starting Redis")
        server = EmbeddedRedis(self._data_dir / "redis", log=self._logs / "redis.log")
        self._servers.start(server)
        return server.url

    def _tell_other_shells(self, environ: Mapping[str, str]) -> None:
        path = self._data_dir / "env"
        self._servers.at_the_end(lambda: path.unlink(missing_ok=True))
        write_for_other_shells(environ, path)

    def _accounts(self, environ: Mapping[str, str]) -> tuple[AccountKeys, ...]:
        # Imported here: half a second that a bad PORT need not wait for.
        from sqlalchemy.exc import DBAPIError

        from kataven.dev.seed import prepare, seed
        from kataven.tenancy.error_classification import in_words

        try:
            say("preparing the system database")
            closed = prepare(environ)
            say("preparing the accounts")
            seeded = seed(environ, dev_json.remembered_accounts(self._data_dir))
        except DBAPIError as error:
            if not self._options.database_url:  # our own server: then it is our own fault, and its traceback is wanted
                raise
            raise DevError(f"KATAVEN_DATABASE_URL: {in_words(error)}") from error
        for account, why in {**seeded.closed, **closed}.items():
            complain(_closed(account, why))
        return tuple(AccountKeys(account.account, account.api_key, account.widget_key) for account in seeded.accounts)

    def _start_issuer(self, environ: Mapping[str, str], port: int) -> None:
        say(f"starting the development OIDC issuer on port {port}")
        private_folder(self._issuer_folder)
        place = ["--host", HOST, "--port", str(port), "--data-dir", str(self._issuer_folder)]
        issuer = Child(
            "the OIDC issuer",
            [sys.executable, "-m", "kataven.dev.issuer", *place],
            mark=self._issuer_mark,
            environ=environ,
            folder=CHECKOUT,
            log=self._logs / "issuer.log",
        )
        self._servers.start(issuer)
        issuer.wait_until(lambda: answers(port, "/.well-known/openid-configuration"), READY_SECONDS)

    def _start_demo(self, run: DevRun, port: int) -> None:
        say(f"starting the widget's demonstration page on port {port}")
        acme = _acme(run)
        # Only what a customer has: none of the product's own secrets.
        environ = {name: value for name, value in self._given.items() if not name.startswith("KATAVEN_")} | {
            "KATAVEN_DEMO_API_URL": run.api_url,
            "KATAVEN_DEMO_WIDGET_KEY": acme.widget_key,
            "KATAVEN_DEMO_API_KEY": acme.api_key,
        }
        demo = Child(
            "the widget's demonstration page",
            [sys.executable, "-m", "kataven.dev.demo", "--port", str(port), "--mark", self._demo_mark.word],
            mark=self._demo_mark,
            environ=environ,
            folder=CHECKOUT,
            log=self._logs / "demo.log",
        )
        self._servers.start(demo)
        demo.wait_until(lambda: answers(port, "/healthz"), READY_SECONDS)

    def _start_gunicorn(self, environ: Mapping[str, str]) -> None:
        port = self._options.port
        say(f"starting gunicorn on port {port}, WORKERS={self._options.workers}")
        gunicorn = Child(
            "gunicorn",
            # The name is how a later run recognises it.
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--name",
                self._gunicorn_mark.word,
                "-c",
                "gunicorn.conf.py",
                "wsgi:app",
            ],
            mark=self._gunicorn_mark,
            environ=environ,
            folder=CHECKOUT,
        )
        self._servers.start(gunicorn)
        gunicorn.wait_until(lambda: answers(port, "/healthz"), READY_SECONDS)


def _closed(account: str, why: str) -> str:
    """The line about an account that this code can't serve. The run goes on: the others are served."""
    return (
        f"account {account} is closed: {why}\n"
        f"  It answers 503. Repair it, then: flask migrations upgrade --account {account}; or drop it: "
        f"flask accounts delete {account} --without-dump"
    )


def _what_to_do(run: DevRun) -> str:
    places = f"Hub: {run.hub_url}\nAPI: {run.api_url}/docs"
    if not run.accounts:
        return f"\n{places}\n\nThere is no account with keys.\n\nCtrl-C stops everything."
    curl = f"curl -s {run.api_url}/v1/agents -H 'Authorization: Bearer {_acme(run).api_key}'"
    return f"\n{places}\nWidget: {run.widget_demo_url}\n\n{curl}\n\nCtrl-C stops everything."


def _acme(run: DevRun) -> AccountKeys:
    return next((account for account in run.accounts if account.account == "acme"), run.accounts[0])
