"""Runs revisions that need Python in separate processes, because Alembic is not thread-safe."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Self

from sqlalchemy import NullPool, make_url

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import Tenant
from kataven.tenancy.error_classification import in_words
from kataven.tenancy.errors import MigrationError, RevisionMoved
from kataven.tenancy.migrations.steps import Step
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.schema import Schema


class AlembicProcesses:
    """Up to `jobs` processes. They start when the first step needs one, and end with the `with` block."""

    def __init__(self, schema: Schema, settings: ConnectionSettings, jobs: int) -> None:
        self._schema = schema
        self._settings = settings
        self._jobs = jobs
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=error is not None)

    def run(self, tenant: Tenant, step: Step) -> None:
        """Apply `step` in a process and wait for it. Raises MigrationError with the error's message."""
        url = tenant.url.render_as_string(hide_password=False)  # sent through a pipe, never on a command line
        self._started().submit(_upgrade, self._schema, self._settings, url, step).result()

    def _started(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn"))
            return self._executor


def _upgrade(schema: Schema, settings: ConnectionSettings, url: str, step: Step) -> None:
    try:
        _upgrade_one(schema, settings, url, step)
    except Exception as error:
        # Not every error of a driver or a revision can be pickled; its message can.
        raise MigrationError(in_words(error)) from None


def _upgrade_one(schema: Schema, settings: ConnectionSettings, url: str, step: Step) -> None:
    engine = EngineFactory(settings).create_engine(make_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        have = schema.revision_of(connection)
        connection.rollback()
        if have != step.start:
            raise RevisionMoved(f"the database is at {have or 'no revision'}, not at {step.start}")
        schema.upgrade(connection, step.revision)
