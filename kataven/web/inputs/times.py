"""Moments in requests, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime

_YEARS: Final = range(1971, 9999)


def time_in_range(moment: datetime) -> datetime:
    """The moment in UTC. Raises ValueError: at both ends, it may be in a year that Python can't represent.

    PostgreSQL refuses some offsets from UTC that a request can have, so moments are converted before they are used.
    """
    if moment.year not in _YEARS:
        raise ValueError(f"must be between the years {_YEARS[0]} and {_YEARS[-1]}")
    return moment.astimezone(UTC)


Time = Annotated[AwareDatetime, AfterValidator(time_in_range)]
"""A time with its offset from UTC (RFC 3339)."""
