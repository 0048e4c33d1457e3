"""Prints tables of any length: a row costs microseconds, and no library for formatting is loaded."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence

import click

GAP = "  "
WIDTH = 200
"""The width of the output if it is not a terminal."""
_LEAST = 8
"""Columns that are at most this wide are not narrowed."""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells below a header. If they are wider than the output, the widest columns are folded."""
    terminal = sys.stdout.isatty()
    total = shutil.get_terminal_size((WIDTH, 24)).columns if terminal else WIDTH
    widths = _fitted([max(map(_width, column)) for column in zip(header, *rows, strict=True)], total)
    click.echo(click.style(next(_lines(header, widths)), bold=True))
    for row in rows:
        for line in _lines(row, widths):
            sys.stdout.write(f"{line}\n")


def _fitted(widths: list[int], total: int) -> list[int]:
    """The widths of the columns, of which the widest are narrowed until all columns fit."""
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - total
    while excess > 0 and (widest := max(widths)) > _LEAST:
        at = widths.index(widest)
        widths[at] -= 1
        excess -= 1
    return widths


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The lines of a row: several if a cell is folded or has line breaks."""
    if all(_width(cell) <= width for cell, width in zip(row, widths, strict=True)) and "\n" not in "".join(row):
        yield GAP.join(map(_padded, row, widths))
        return
    cells = [list(_folded(cell, width)) for cell, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, cells))):
        parts = (lines[number] if number < len(lines) else "" for lines in cells)
        yield GAP.join(map(_padded, parts, widths))


def _folded(cell: str, width: int) -> Iterator[str]:
    for line in cell.split("\n"):
        start, used = 0, 0
        for at, character in enumerate(line):
            wide = _width(character)
            if used + wide > width and at > start:
                yield line[start:at]
                start, used = at, 0
            used += wide
        yield line[start:]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _width(text: str) -> int:
    """How many columns of a terminal a line of the text takes, or its longest line."""
    if "\n" in text:
        return max(map(_width, text.split("\n")))
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
