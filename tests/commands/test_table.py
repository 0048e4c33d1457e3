"""Tables and arrays that commands print."""

from __future__ import annotations

import json

import pytest

from kataven.commands.output import print_rows
from kataven.commands.table import WIDTH

NAME = "日本語の口座"
"""Six characters that take two columns each."""


def printed(capsys: pytest.CaptureFixture[str], *rows: dict[str, object], as_json: bool = False) -> list[str]:
    print_rows(rows, as_json=as_json, empty="Nothing.")
    return capsys.readouterr().out.split("\n")[:-1]


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, {"key_id": "a", "name": None}, {"key_id": "longer than", "name": "b"}) == [
        "key id       name",
        "a            -   ",
        "longer than  b   ",
    ]


def test_wide_and_combining_characters_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, {"name": NAME, "n": 1}, {"name": "e\u0301", "n": 2}) == [
        "name          n",
        f"{NAME}  1",
        "e\u0301             2",
    ]


def test_only_the_widest_columns_are_folded_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    text, other = "0123456789" * 40, NAME * 30
    lines = printed(capsys, {"account": "acme", "text": text, "other": other})
    assert lines[1].startswith("acme     0123")
    assert lines[2].startswith(" " * len("account  "))
    columns = [line.split() for line in lines[2:-1]]
    assert all(len(line) + sum(character in NAME for character in line) <= WIDTH for line in lines)
    assert all(len(parts) <= 2 for parts in columns)
    shown = "".join(lines[1:])
    assert "".join(character for character in shown if character.isdigit()) == text
    assert "".join(character for character in shown if character in NAME) == other


def test_a_line_break_in_a_cell_starts_a_line_in_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, {"a": "x\ny", "b": "z"}) == ["a  b", "x  z", "y   "]


def test_control_characters_are_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, {"a": "\x1b[31mred\x07"})[1] == "[31mred"


def test_rows_as_json_are_one_array_and_are_read_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"a": 'line\nbreak "quoted"', "b": [1, {"c": None}]}, {"a": NAME, "b": []}]
    print_rows(iter(rows), as_json=True)
    assert capsys.readouterr().out == json.dumps(rows, default=str, indent=2) + "\n"


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == ["Nothing."]
    assert printed(capsys, as_json=True) == ["[]"]
