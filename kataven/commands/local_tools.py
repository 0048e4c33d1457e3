"""The PostgreSQL programs and the dump folder of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flask import Flask, current_app

from kataven.operations.account_dumps import DumpStore
from kataven.tenancy.programs import Programs

_EXTENSION = "kataven-tools"


@dataclass(frozen=True, slots=True)
class LocalTools:
    """Attached to the application at startup, from its settings."""

    programs: Programs
    dump_dir: Path

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self


def local_tools() -> LocalTools:
    """The tools of the current application."""
    found: LocalTools = current_app.extensions[_EXTENSION]
    return found


def dump_store(folder: Path | None = None) -> DumpStore:
    """Dumps go to `folder`, or to the folder from the settings if it is None."""
    return DumpStore(local_tools().programs, folder or local_tools().dump_dir)
