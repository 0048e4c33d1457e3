"""The command reference equals what `make generate` writes, and its options exist."""

from __future__ import annotations

from tools import generate_commands


def test_command_reference_is_current() -> None:
    assert generate_commands.PAGE.read_text(encoding="utf-8") == generate_commands.page(), "run `make generate`"


def test_every_command_is_on_the_page() -> None:
    page = generate_commands.page()
    for line in ("## kataven doctor\n", "### kataven keys revoke\n", "    kataven keys revoke [OPTIONS] [KEY_ID]\n"):
        assert line in page
    assert "| `--secret-stdin` | " in page
    assert "carry-out" not in page, "hidden commands are not listed"
