"""A page of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A page of a list, and the cursor of the next page: None on the last page."""

    items: tuple[Item, ...]
    next_cursor: str | None
