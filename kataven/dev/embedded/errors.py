"""The error of the development tools."""

from __future__ import annotations


class DevError(Exception):
    """Raised if an expected problem stops a development run. The message is printed as it is.

    The first line says what is wrong and what to change. Further lines are the end of a server's log.
    """
