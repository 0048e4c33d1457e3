"""`make run`: starts all servers of the product on this machine in order, and stops them in reverse on Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from kataven.dev import dev_json
from kataven.dev.dev_json import AccountKeys, DevRun
from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.child import Child
from kataven.dev.embedded.errors import DevError
from kataven.dev.embedded.files import passable_folder, private_folder
from kataven.dev.embedded.launch import die_with_parent
from kataven.dev.embedded.lock import FolderLock
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.processes import Mark
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.environment import development_environment, hub_url, write_for_other_shells
from kataven.dev.external import require_postgres, require_redis
from kataven.dev.options import read_options
from kataven.dev.ports import HOST, free_port, require_free_port, responds
from kataven.dev.reloading import CodeWatch, ReloadingServer
from kataven.dev.server_group import ServerGroup
from kataven.dev.terminal import StopRequested, ignore_stop_signals, print_error, print_line

IMPORT_FOLDER = Path(__file__).resolve().parents[2]
"""A checkout, or `site-packages`. A process that starts in this folder imports the same `kataven`."""

SYSTEM_DATABASE = "kataven_system"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


def main(environ: Mapping[str, str], *, reload: bool = False) -> int:
    """Run until a stop signal (0) or a failure (1, with a message). No process remains afterwards.

    `reload`: restart the API and the Hub when the code changes.
    """
    if "MAKELEVEL" in environ:  # a make that is killed cannot forward the signal
        die_with_parent(os.getppid(), signal.SIGTERM)
    try:
        with ServerGroup() as servers:
            try:
                DevSupervisor(environ, servers, reload=reload).serve()
            finally:
                ignore_stop_signals()
                if servers.started:
                    print_line("stopping")
    except StopRequested:
        return 0
    except DevError as error:
        print_error(f"make run: {error}")
        return 1


class DevSupervisor:
    """One development run. `serve` contains its steps in order."""

    def __init__(self, environ: Mapping[str, str], servers: ServerGroup, *, reload: bool = False) -> None:
        self._given = environ
        self._servers = servers
        self._reload = reload
        self._options = read_options(environ)
        self._data_dir = self._options.data_dir
        self._logs = self._data_dir / "logs"
        self._issuer_folder = self._data_dir / "issuer"
        self._issuer_mark = Mark("kataven.dev.issuer", str(self._issuer_folder))
        self._demo_mark = Mark("kataven.dev.demo", str(self._data_dir / "demo"))
        self._gunicorn_mark = Mark("gunicorn", str(self._data_dir / "gunicorn"))

    def serve(self) -> NoReturn:
        """Start everything, then watch it. Raises DevError, or StopRequested after a stop signal."""
        started_at = time.monotonic()
        self._reserve_data_dir()
        issuer_port, demo_port = free_port(self._options.port + 1), free_port(self._options.port + 2)
        issuer_url = f"http://{HOST}:{issuer_port}"
        environ = development_environment(self._given, self._options, issuer_url)
        environ["KATAVEN_DATABASE_URL"] = self._start_postgres()
        if not self._options.database_url:  # dumps of the embedded server need programs of its version
            environ.setdefault("KATAVEN_POSTGRES_PROGRAMS", str(postgres_programs()))
        environ["KATAVEN_REDIS_URL"] = self._start_redis()
        env_file = self._data_dir / "env"
        self._servers.callback(lambda: env_file.unlink(missing_ok=True))
        write_for_other_shells(environ, env_file)
        run = DevRun(
            api_url=f"http://{HOST}:{self._options.port}",
            hub_url=hub_url(self._options.port),
            database_url=environ["KATAVEN_DATABASE_URL"],
            redis_url=environ["KATAVEN_REDIS_URL"],
            oidc_issuer=issuer_url,
            # A host name, so that for the browser it is a different site than the API's address.
            widget_demo_url=f"http://localhost:{demo_port}",
            accounts=self._prepare_accounts(environ),
        )
        dev_json.write_pending(self._data_dir, run)
        self._start_issuer(environ, issuer_port)
        self._start_gunicorn(environ)
        if run.accounts:
            self._start_demo(run, demo_port)
        dev_json.publish(self._data_dir)
        print_line(f"ready after {time.monotonic() - started_at:.1f} s\n{_summary(run)}")
        self._servers.watch()

    def _reserve_data_dir(self) -> None:
        """Lock the data folder, stop what a killed run left behind, and check the port, before anything starts."""
        print_line(f"data folder: {passable_folder(self._data_dir)}")
        lock = FolderLock(self._data_dir)
        lock.acquire()
        self._servers.callback(lock.release)
        private_folder(self._logs)
        # SIGQUIT, because gunicorn received SIGTERM when its supervisor died and can wait for workers for 30 s.
        self._gunicorn_mark.stop_all(signal.SIGQUIT, STOP_SECONDS)
        self._issuer_mark.stop_all(signal.SIGTERM, STOP_SECONDS)
        self._demo_mark.stop_all(signal.SIGTERM, STOP_SECONDS)
        require_free_port(self._options.port, "PORT")
        dev_json.unpublish(self._data_dir)

    def _start_postgres(self) -> str:
        if self._options.database_url:
            print_line("using the PostgreSQL in KATAVEN_DATABASE_URL")
            direct = self._given.get("KATAVEN_DIRECT_DATABASE_URL")
            require_postgres(self._options.database_url, pooled=bool(direct))
            if direct:
                require_postgres(direct, "KATAVEN_DIRECT_DATABASE_URL")
            return self._options.database_url
        print_line("starting PostgreSQL")
        server = EmbeddedPostgres(self._data_dir / "postgres", log=self._logs / "postgres.log")
        self._servers.start(server)
        return server.url(SYSTEM_DATABASE)

    def _start_redis(self) -> str:
        if self._options.redis_url:
            print_line("using the Redis in KATAVEN_REDIS_URL")
            require_redis(self._options.redis_url)
            return self._options.redis_url
        print_line("starting Redis")
        server = EmbeddedRedis(self._data_dir / "redis", log=self._logs / "redis.log")
        self._servers.start(server)
        return server.url

    def _prepare_accounts(self, environ: Mapping[str, str]) -> tuple[AccountKeys, ...]:
        # Imported here, because it takes half a second and an invalid PORT should fail earlier.
        from sqlalchemy.exc import DBAPIError

        from kataven.dev.seed import migrate, seed
        from kataven.tenancy.error_classification import in_words

        try:
            print_line("preparing the system database")
            unavailable = migrate(environ)
            print_line("preparing the accounts")
            seeded = seed(environ, dev_json.stored_accounts(self._data_dir))
        except DBAPIError as error:
            if not self._options.database_url:  # the embedded server: this is a bug, so keep the traceback
                raise
            raise DevError(f"KATAVEN_DATABASE_URL: {in_words(error)}") from error
        for account, reason in {**seeded.unavailable, **unavailable}.items():
            print_error(_unavailable(account, reason))
        return seeded.accounts

    def _start_issuer(self, environ: Mapping[str, str], port: int) -> None:
        print_line(f"starting the development OIDC issuer on port {port}")
        private_folder(self._issuer_folder)
        arguments = ["kataven.dev.issuer", "--host", HOST, "--port", str(port), "--data-dir", str(self._issuer_folder)]
        log = self._logs / "issuer.log"
        path = "/.well-known/openid-configuration"
        self._start_module("the OIDC issuer", arguments, self._issuer_mark, environ, port, path, log)

    def _start_demo(self, run: DevRun, port: int) -> None:
        print_line(f"starting the widget demonstration on port {port}")
        keys = _printed_account(run)
        # Only what a customer's server has: none of the product's secrets.
        environ = {name: value for name, value in self._given.items() if not name.startswith("KATAVEN_")} | {
            "KATAVEN_DEMO_API_URL": run.api_url,
            "KATAVEN_DEMO_WIDGET_KEY": keys.widget_key,
            "KATAVEN_DEMO_API_KEY": keys.api_key,
        }
        arguments = ["kataven.dev.demo", "--port", str(port), "--mark", self._demo_mark.word]
        log = self._logs / "demo.log"
        self._start_module("the widget demonstration", arguments, self._demo_mark, environ, port, "/healthz", log)

    def _start_gunicorn(self, environ: Mapping[str, str]) -> None:
        port = self._options.port
        print_line(f"starting gunicorn on port {port}, WORKERS={self._options.workers}")
        # The name lets a later run recognize it.
        configuration = "python:kataven.serve.gunicorn_conf"
        arguments = ["gunicorn", "--name", self._gunicorn_mark.word, "-c", configuration, "kataven.serve.wsgi:app"]
        if not self._reload:
            self._start_module("gunicorn", arguments, self._gunicorn_mark, environ, port, "/healthz", None)
            return
        child = self._module("gunicorn", arguments, self._gunicorn_mark, environ, None)
        watch = CodeWatch([IMPORT_FOLDER / "kataven"])

        def wait_until_ready() -> None:
            child.wait_until(lambda: responds(port, "/healthz"), READY_SECONDS)

        self._servers.start(ReloadingServer("gunicorn", child, wait_until_ready, watch))

    def _start_module(
        self,
        name: str,
        arguments: list[str],
        mark: Mark,
        environ: Mapping[str, str],
        port: int,
        path: str,
        log: Path | None,
    ) -> None:
        """Run `python -m` with `arguments`, and return when `path` on `port` returns 200."""
        child = self._module(name, arguments, mark, environ, log)
        self._servers.start(child)
        child.wait_until(lambda: responds(port, path), READY_SECONDS)

    def _module(
        self, name: str, arguments: list[str], mark: Mark, environ: Mapping[str, str], log: Path | None
    ) -> Child:
        command = [sys.executable, "-m", *arguments]
        return Child(name, command, mark=mark, environ=environ, folder=IMPORT_FOLDER, log=log)


def _unavailable(account: str, reason: str) -> str:
    """The message about an account that this code cannot serve. The run continues with the others."""
    return (
        f"account {account} is not available: {reason}\n"
        f"  Its requests return 503. Repair it, then run: flask migrations upgrade --account {account}; or delete it: "
        f"flask accounts delete {account} --without-dump"
    )


def _summary(run: DevRun) -> str:
    urls = f"Hub: {run.hub_url}\nAPI: {run.api_url}/docs"
    if not run.accounts:
        return f"\n{urls}\n\nNo account with keys exists.\n\nCtrl-C stops everything."
    curl = f"curl -s {run.api_url}/v1/agents -H 'Authorization: Bearer {_printed_account(run).api_key}'"
    return f"\n{urls}\nWidget: {run.widget_demo_url}\n\n{curl}\n\nCtrl-C stops everything."


def _printed_account(run: DevRun) -> AccountKeys:
    return next((keys for keys in run.accounts if keys.account == "acme"), run.accounts[0])
