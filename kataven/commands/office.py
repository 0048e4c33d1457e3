"""What the commands on accounts act with: who they are, and what reaches into an account's database for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app

from kataven.operations import operator_actions
from kataven.operations.account_dumps import DumpStore
from kataven.operations.account_status import OperatorContext
from kataven.tenancy.programs import Programs
from kataven.web.services import services

ACTOR = "cli"

_EXTENSION = "kataven-tools"


@dataclass(frozen=True, slots=True)
class Tools:
    """What is on this machine beside the product."""

    programs: Programs
    dump_dir: Path

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self


def tools() -> Tools:
    """Those of the application that the command belongs to."""
    found: Tools = current_app.extensions[_EXTENSION]
    return found


def store(folder: Path | None = None) -> DumpStore:
    """Where dumps are put: `folder`, else as the settings say."""
    return DumpStore(tools().programs, folder or tools().dump_dir)


def operator_context() -> OperatorContext:
    """Whoever types the command, acting on accounts from outside them."""
    return operator_actions.operator_context(services(), ACTOR)
