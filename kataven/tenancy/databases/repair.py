"""Finds what a crash left behind, and cleans it up.

The system that keeps the accounts writes `provisioning` before a database is made and the final status after. Where a
crash came between, what is there and what is written differ; `find_wrecks` compares the two and touches nothing.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from kataven.tenancy.names import RESERVED_NAMES, SCRATCH_PREFIX, TEMPLATE_PREFIX
from kataven.tenancy.server import DatabaseServer, Maintenance
from kataven.tenancy.templates import scratch_name


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What the accounts' keeper has written about one account of a server.

    `unfinished` while it is being made, `leaving` while it is being deleted.
    """

    account: str
    database: str
    unfinished: bool
    leaving: bool = False


class OrphanKind(StrEnum):
    """What kind of difference was found, and what becomes of it."""

    HALF_MADE = "half-made database"  # dropped: nobody has ever used it
    UNFINISHED = "whole database of an unfinished account"  # the account is finished
    NOTHING_MADE = "unfinished account without a database"  # the account is undone
    REMOVED = "deleted account whose row is left"  # the account is undone
    LEAVING = "account whose deletion was interrupted"  # told, not touched: it may yet be wanted
    LOST = "account without its database"  # told, not touched: somebody has to look
    STRAY = "database without an account"  # told, not touched: it may be somebody's data


@dataclass(frozen=True, slots=True)
class Orphan:
    """One difference between what is there and what is written."""

    kind: OrphanKind
    database: str
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a wreck: `done` is False where it was left alone, for the `reason` given."""

    orphan: Orphan
    done: bool
    reason: str = ""


def find_orphans(
    databases: Collection[str], accounts: Iterable[KnownAccount], *, ignored: Collection[str] = ()
) -> list[Orphan]:
    """Compare a server's databases with the accounts placed on it. `ignored` are known to be something else."""
    orphans = [Orphan(OrphanKind.HALF_MADE, database) for database in databases if database.startswith(SCRATCH_PREFIX)]
    named = set()
    for known in accounts:
        named.add(known.database)
        there = known.database in databases
        kind = _kind(known, there=there)
        if kind is not None:
            orphans.append(Orphan(kind, known.database, known.account))
    ours = (SCRATCH_PREFIX, TEMPLATE_PREFIX)
    strays = set(databases) - named - RESERVED_NAMES - set(ignored)
    orphans += [Orphan(OrphanKind.STRAY, stray) for stray in strays if not stray.startswith(ours)]
    return sorted(orphans, key=lambda orphan: (orphan.kind, orphan.database))


def _kind(known: KnownAccount, *, there: bool) -> OrphanKind | None:
    if known.unfinished:
        return OrphanKind.UNFINISHED if there else OrphanKind.NOTHING_MADE
    if known.leaving:
        return OrphanKind.LEAVING if there else OrphanKind.REMOVED
    return None if there else OrphanKind.LOST


def repair(
    server: DatabaseServer,
    orphans: Iterable[Orphan],
    *,
    finish: Callable[[str], None],
    undo: Callable[[str], None],
) -> list[Repair]:
    """Clean up `wrecks`. What is being made at this moment is left alone.

    `finish(account)` and `undo(account)` are called with the account's lock held; they have to look again whether it is
    still unfinished, because it may have been settled since the wrecks were found.
    """
    with server.maintenance() as maintenance:
        return [_repair(maintenance, orphan, finish, undo) for orphan in orphans]


def _repair(
    maintenance: Maintenance, orphan: Orphan, finish: Callable[[str], None], undo: Callable[[str], None]
) -> Repair:
    if orphan.kind in (OrphanKind.LOST, OrphanKind.STRAY):
        return Repair(orphan, done=False, reason="somebody has to look")
    lock = orphan.database if orphan.kind is OrphanKind.HALF_MADE else scratch_name(orphan.database)
    if not maintenance.try_lock(lock):
        return Repair(orphan, done=False, reason="it is being made or removed at this moment")
    try:
        if orphan.kind is OrphanKind.LEAVING:
            return Repair(orphan, done=False, reason="repeat the deletion, or restore the account")
        if orphan.account is None:
            maintenance.discard(orphan.database)
        elif maintenance.exists(orphan.database):
            finish(orphan.account)
        else:
            undo(orphan.account)
    finally:
        maintenance.unlock(lock)
    return Repair(orphan, done=True)
