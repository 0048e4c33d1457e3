"""The upgrade notes name the schema revisions that exist, and have a section for each release of the changelog."""

from __future__ import annotations

import re
from pathlib import Path

from kataven.settings import PREFIX, Settings
from kataven.system.schema import ACCOUNT_SCHEMA, OLDEST_SERVED, OLDEST_SYSTEM_SERVED, SYSTEM_SCHEMA

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "upgrading.md").read_text()
GENERAL = {"Every upgrade", "Roll back"}


def test_every_release_of_the_changelog_has_its_notes() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    releases = {title.split()[0] for title in re.findall(r"^## (.*)$", changelog, re.MULTILINE)}
    assert set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) == releases | GENERAL


def test_notes_of_the_next_release_name_its_schema_window() -> None:
    oldest, newest = f"`{OLDEST_SYSTEM_SERVED}`, `{OLDEST_SERVED}`", f"`{SYSTEM_SCHEMA.head}`, `{ACCOUNT_SCHEMA.head}`"
    assert f"Oldest schema revisions that this release serves: {oldest}. Newest: {newest}." in PAGE


def test_named_settings_and_revisions_exist() -> None:
    current = PAGE.replace("`KATAVEN_HUB_HOST`", "")  # what the notes tell operators to replace
    assert {name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", current)} <= set(Settings.model_fields)
    exist = {path.stem[: len("system_0001")] for path in (ROOT / "alembic" / "system").glob("system_*.py")}
    exist |= {path.stem[: len("account_0001")] for path in (ROOT / "alembic" / "account").glob("account_*.py")}
    assert set(re.findall(r"`((?:system|account)_\d{4})`", PAGE)) <= exist
