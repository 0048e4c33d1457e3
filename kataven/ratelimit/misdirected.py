"""The errors by which a Redis says that it is not the one to ask: the connection leads to the wrong server."""

from __future__ import annotations

import re

ERRORS = ("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "MOVED")
"""A primary that was demoted, one that lost its replicas, one that is starting, a replica without its primary, a
cluster's node. A planned failover ends no client's connection: the demoted server keeps it and answers like this."""

# Redis 6 reports an error of a command inside a script in the middle of a sentence, behind a dash.
_PATTERN = re.compile(rf"(?:^|-)(?:{'|'.join(ERRORS)})\b")


def is_misdirected(error: str) -> bool:
    """Whether another connection, to the same address, may lead to a server that can do it."""
    return _PATTERN.search(error) is not None
