"""The operator that commands act as."""

from __future__ import annotations

from kataven.operations.operator import Operator
from kataven.web.services import services

ACTOR = "cli"
"""The actor of commands in the operator audit log."""


def cli_operator() -> Operator:
    return Operator(ACTOR, services())
