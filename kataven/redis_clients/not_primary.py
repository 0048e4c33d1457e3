"""Errors of a server that did not execute a command because another server must."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError, ResponseError

NOT_PRIMARY: Final = frozenset({"READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "MOVED"})
"""Error codes of a server that did not execute the command, and whose successor may."""

# A rejected write in a script. Redis 7 returns the error code of the write; Redis 6 returns it after other text.
_IN_SCRIPT = re.compile(rf"@user_script.*-({'|'.join(sorted(NOT_PRIMARY))})\b")
_REDIRECTION = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")


def is_not_primary(error: Exception) -> bool:
    """Whether a Redis error means that this server is not the primary."""
    if not isinstance(error, RedisError):
        return False
    return error.status_code in NOT_PRIMARY or (isinstance(error, ResponseError) and says_not_primary(str(error)))


def says_not_primary(message: str) -> bool:
    """The same for an error message from Redis, such as `READONLY You can't write against …`."""
    return message.partition(" ")[0] in NOT_PRIMARY or _IN_SCRIPT.search(message) is not None


@dataclass(frozen=True, slots=True)
class Redirection:
    """The node of a cluster that executes the command. `asking`: only this command; the slot is being moved."""

    asking: bool
    slot: int
    host: str
    """Empty if it is the host of the node that replied."""
    port: int


def read_redirection(message: str) -> Redirection | None:
    """The redirection in an error message such as `MOVED 15154 127.0.0.1:7001`; None if it is another error."""
    found = _REDIRECTION.fullmatch(message)
    return None if found is None else Redirection(found[1] == "ASK", int(found[2]), found[3], int(found[4]))
