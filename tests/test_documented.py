"""The documentation is held to the code: every setting, error code and row of the table is there."""

from __future__ import annotations

import re
from pathlib import Path

from kataven.identity.token import TOKEN_PATTERN
from kataven.settings import PREFIX, Settings
from kataven.web.problems import KINDS

ROOT = Path(__file__).resolve().parents[1]


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{PREFIX}{name.upper()}`" in page
        assert field.description
        assert field.description in page


def test_no_setting_is_documented_that_does_not_exist() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert {name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", page)} == set(Settings.model_fields)


def test_the_order_of_decisions_has_only_codes_that_exist() -> None:
    page = (ROOT / "docs" / "authentication.md").read_text()
    for status, codes in re.findall(r"\| (\d{3}) ((?:`\w+`(?: / )?)+)", page):
        for code in re.findall(r"`(\w+)`", codes):
            assert KINDS[code].status == int(status)


def test_the_published_expression_is_the_real_one() -> None:
    assert TOKEN_PATTERN in (ROOT / "docs" / "token-format.md").read_text()


def test_every_room_is_on_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for room in (ROOT / "kataven").iterdir():
        if (room / "__init__.py").exists():
            assert f"{room.name}/" in page
