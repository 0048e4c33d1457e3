"""Reads the names and the order of revisions from their files, without Alembic and without running them.

A process that serves requests needs no more than this. Importing Alembic, and the revisions through it, would cost each
worker 0.1 s of CPU at startup and several megabytes.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kataven.tenancy.errors import MigrationError


@dataclass(frozen=True, slots=True)
class RevisionFile:
    """A revision, the revision that it follows (None: it is the first), and its file."""

    revision: str
    down_revision: str | None
    path: Path


def read_history(folder: Path, branch: str) -> dict[str, RevisionFile]:
    """The revisions in `folder` by name, oldest first. Raises MigrationError if they are not one linear history."""
    files = [_read(path) for path in sorted(folder.glob("[!.]*.py")) if path.name != "__init__.py"]
    history: dict[str, RevisionFile] = {}
    previous: str | None = None
    while following := [file for file in files if file.down_revision == previous]:
        if len(following) > 1 or following[0].revision in history:
            raise MigrationError(f"the revisions of {branch!r} fork at {previous}")
        history[following[0].revision] = following[0]
        previous = following[0].revision
    if lost := next((file for file in files if file not in history.values()), None):
        raise MigrationError(f"{lost.path.name} of {branch!r} follows {lost.down_revision}, which does not exist")
    return history


def _read(path: Path) -> RevisionFile:
    try:
        constants = dict(_constants(ast.parse(path.read_bytes(), str(path))))
    except SyntaxError as error:
        raise MigrationError(f"{path.name} is not valid Python: {error.msg}") from None
    revision, down_revision = constants.get("revision"), constants.get("down_revision", ...)
    if not isinstance(revision, str) or not (down_revision is None or isinstance(down_revision, str)):
        raise MigrationError(f"{path.name} must set `revision` to a string, and `down_revision` to a string or None")
    return RevisionFile(revision, down_revision, path)


def _constants(module: ast.Module) -> Iterator[tuple[str, object]]:
    """The names that the module sets to constants: `a = 1`, `a: int = 1`, `a, b = 1, 2`."""
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                pairs = list(zip(names, values, strict=False))
            case ast.Assign(targets=targets, value=value):
                pairs = [(target, value) for target in targets]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case _:
                continue
        for name, value in pairs:
            if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                yield name.id, value.value
