"""Slots of a Redis Cluster. Keys with the same hash tag, the part in braces, are in the same slot."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final

SLOTS: Final = 16384


def slot_of(key: str | bytes) -> int:
    """The slot of a key, as `CLUSTER KEYSLOT` returns it."""
    name = key.encode() if isinstance(key, str) else key
    start = name.find(b"{")
    if start >= 0:
        end = name.find(b"}", start + 1)
        if end > start + 1:
            name = name[start + 1 : end]
    return binascii.crc_hqx(name, 0) % SLOTS


_KEYS_AFTER_COUNT: Final = frozenset({"EVAL", "EVALSHA"})
_WITHOUT_KEY: Final = frozenset({"PING", "ECHO", "TIME", "INFO", "SCRIPT LOAD", "CLIENT", "DBSIZE"})


def slot_of_command(arguments: Sequence[object]) -> int | None:
    """The slot of a command's first key; None for a command without a key, which any node can execute."""
    name = str(arguments[0]).upper()
    if name in _WITHOUT_KEY:
        return None
    at = 1
    if name in _KEYS_AFTER_COUNT:
        if int(str(arguments[2])) == 0:
            return None
        at = 3
    key = arguments[at]
    return slot_of(key if isinstance(key, (str, bytes)) else str(key))
