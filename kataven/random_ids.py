"""Random ids of requests and spans. The operating system is asked once for many, because each call of it releases the
interpreter's lock, which costs more than the call."""

from __future__ import annotations

import os

_BATCH = 64
_BYTES = 16
_unused: list[str] = []
"""`pop` and `extend` are atomic, so each id is used once."""


def new_id() -> str:
    """A random id of 128 bits, in hexadecimal."""
    try:
        return _unused.pop()
    except IndexError:
        random, size = os.urandom(_BYTES * _BATCH).hex(), 2 * _BYTES
        _unused.extend([random[at : at + size] for at in range(size, len(random), size)])
        return random[:size]


os.register_at_fork(after_in_child=_unused.clear)  # otherwise, workers would use the same ids
