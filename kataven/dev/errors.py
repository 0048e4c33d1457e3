"""What a development run refuses with."""

from __future__ import annotations


class DevError(Exception):
    """Raised when something foreseen stops a development run: its text is for the person at the terminal.

    One clear line: what is wrong, and what to change. Lines after the first are the end of a server's log.
    """
