"""The example applications, as their READMEs run them: real servers with two workers each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kataven.dev.personas import ALICE
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import CHECKOUT, Gunicorn

pytestmark = pytest.mark.processes

EXAMPLES = CHECKOUT / "examples"
COMMANDS = {
    "notes_flask": ["-m", "gunicorn", "-c", "gunicorn.conf.py", "application:create_app()"],
    "notes_fastapi": ["-m", "uvicorn", "application:app", "--workers", "2", "--no-proxy-headers", "--port"],
}
UPGRADES = {
    "notes_flask": ["-m", "flask", "--app", "application:create_app()", "upgrade-tables"],
    "notes_fastapi": ["upgrade_tables.py"],
}


@dataclass
class Example(Gunicorn):
    """A running example."""

    name: str = ""
    upgraded: str = field(default="", init=False)

    def arguments(self) -> list[str]:
        command = COMMANDS[self.name]
        return [*command, str(self.port)] if command[-1] == "--port" else command

    @property
    def folder(self) -> Path:
        return EXAMPLES / self.name

    def upgrade(self) -> list[str]:
        """The output of the command that upgrades the tables."""
        ran = subprocess.run(
            [sys.executable, *UPGRADES[self.name]],
            cwd=self.folder,
            env={**os.environ, **self.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()


@pytest.fixture(scope="module", params=list(COMMANDS))
def bare_example(
    request: pytest.FixtureRequest, harness: AppHarness, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    for account in ("notes-one", "notes-two"):
        if harness.services.directory.read(account) is None:
            new_account(harness.services, account)
    started = Example(
        {**harness.environ, "KATAVEN_WORKERS": "2"}, tmp_path_factory.mktemp("example") / "log", name=request.param
    )
    with started:
        yield started


@pytest.fixture(scope="module")
def example(bare_example: Example, harness: AppHarness) -> Example:
    """After its tables were created."""
    with bare_example.client(harness.new_key("notes-one")) as one:
        before = one.get("/notes")
        if bare_example.name == "notes_flask":  # the second example finds the table of the first
            assert (before.status_code, before.json()["code"]) == (503, "schema_mismatch")
    assert {"notes-one: notes_0001", "notes-two: notes_0001"} <= set(bare_example.upgrade())
    return bare_example


def test_table_is_created_in_the_database_of_each_account_and_isolates_them(
    example: Example, harness: AppHarness
) -> None:
    with example.client(harness.new_key("notes-one")) as one, example.client(harness.new_key("notes-two")) as two:
        text = f"of {example.name}"
        assert one.post("/notes", json={"text": text}).status_code == 201
        assert [note["text"] for note in one.get("/notes").json()["notes"]][-1] == text
        assert text not in [note["text"] for note in two.get("/notes").json()["notes"]]
        assert httpx2.get(f"{example.url}/notes", trust_env=False).status_code == 401


def test_revoked_key_is_rejected_by_both_workers_once_the_receipt_is_out(example: Example, harness: AppHarness) -> None:
    alice = harness.user(ALICE)
    created = alice.post("/v1/api-keys", {"name": example.name, "expiry": "never"}).get_json()
    used: set[str] = set()
    while len(used) < 2:  # so that each worker has the key in its cache
        response = request_by_a_new_connection(example, created["key"])
        assert response.status_code == 200
        used.add(response.headers["X-Kataven-Worker"])
    receipt = alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True}).get_json()["receipt"]
    assert receipt["workers"] >= 3  # the API of the harness, and both workers
    assert receipt["acknowledged"] == receipt["workers"]
    refused: set[str] = set()
    while len(refused) < 2:
        response = request_by_a_new_connection(example, created["key"])
        assert (response.status_code, response.json()["code"]) == (403, "revoked_credential")
        refused.add(response.headers["X-Kataven-Worker"])
    assert refused == used


def request_by_a_new_connection(example: Example, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}", "X-Kataven-Measure": "x", "Connection": "close"}
    return httpx2.get(f"{example.url}/notes", headers=headers, trust_env=False, timeout=30)
