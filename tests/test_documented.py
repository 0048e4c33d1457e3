"""The documentation is consistent with the code: every setting, error code, metric and command is documented."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from kataven.hub.sign_in_reasons import Reason, checklist
from kataven.identity.discovery import DiscoveryProblem
from kataven.identity.grants import RoleGap
from kataven.identity.token import TOKEN_PATTERN
from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.redis_pool import SLOW_SECONDS
from kataven.settings import PREFIX, Settings
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.web.metrics import Metrics
from kataven.web.problems import PROBLEM_TYPES
from kataven.widget.errors import WidgetRefused
from tests.hub import issuers
from tests.support.app_harness import AppHarness, Caller

ROOT = Path(__file__).resolve().parents[1]


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{PREFIX}{name.upper()}`" in page
        assert field.description
        assert field.description in page


def test_every_documented_setting_exists() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert {name.lower() for name in re.findall(rf"`{PREFIX}([A-Z_]+)`", page)} == set(Settings.model_fields)


def test_order_of_checks_names_only_existing_codes() -> None:
    page = (ROOT / "docs" / "authentication.md").read_text()
    for status, codes in re.findall(r"\| (\d{3}) ((?:`\w+`(?: / )?)+)", page):
        for code in re.findall(r"`(\w+)`", codes):
            assert PROBLEM_TYPES[code].status == int(status)


def test_every_widget_error_is_documented_with_its_status() -> None:
    page = (ROOT / "docs" / "widget.md").read_text()
    listed = {code: int(status) for code, status in re.findall(r"\| `(\w+)` \| (\d{3}) \|", page)}
    assert listed == {code: PROBLEM_TYPES[code].status for code in listed}
    assert {refusal.code for refusal in WidgetRefused.__subclasses__()} <= set(listed)


def test_changelog_states_each_change_once() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    changes = Counter(line for line in lines if line.startswith("- "))
    assert [change for change, times in changes.items() if times > 1] == []


@pytest.mark.parametrize("page", ["development.md", "new-endpoint.md"])
def test_drafted_revision_follows_the_newest_one(page: str) -> None:
    newest = ACCOUNT_SCHEMA.head
    following = f"account_{int(newest.removeprefix('account_')) + 1:04}"
    drafted = re.findall(r"(account_\d{4})_notes_about_agents", (ROOT / "docs" / page).read_text())
    assert set(drafted) == {following}


def test_published_token_pattern_equals_the_real_one() -> None:
    assert TOKEN_PATTERN in (ROOT / "docs" / "token-format.md").read_text()


def test_architecture_map_lists_exactly_the_packages_and_modules() -> None:
    project = ROOT / "kataven"
    packages = {found.parent for found in project.rglob("__init__.py")} - {project}
    modules = {found for found in project.glob("*.py") if found.name != "__init__.py"}
    assert set(paths_on_the_map()) == {str(found.relative_to(project)) for found in packages | modules}


def paths_on_the_map() -> Iterator[str]:
    """The paths below `kataven/` on the map of packages, from their indentation."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    parents: dict[int, str] = {}
    for line in page.partition("\nkataven/\n")[2].partition("\n```")[0].splitlines():
        entry = re.match(r"( {2}| {4}| {6})([a-z_]+)(/|\.py) ", line)
        if entry is None:
            continue  # continues the description of the line above
        depth = len(entry[1])
        path = f"{parents.get(depth - 2, '')}{entry[2]}"
        parents[depth] = f"{path}/"
        yield path if entry[3] == "/" else f"{path}.py"


def test_architecture_lists_the_layers_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Layers")[2].partition("\n\n- ")[0]
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| [^|]* \| (`.*`) \|$", table, re.MULTILINE)]
    assert rows == [re.findall(r"kataven\.(\w+)", layer) for layer in layers]


def test_readme_response_has_the_fields_of_the_real_one(acme_key: Caller) -> None:
    sample = re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert sample is not None
    assert shape(json.loads(sample[1])) == shape(acme_key.get("/v1/me").get_json())


def shape(value: Any) -> Any:
    """The structure of a response without its values."""
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else ...


def test_every_linked_page_exists() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_metric_is_documented_with_its_help_text() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = dict(re.findall(r"^\| `kataven_(\w+)` \| \w+ \| (.*?) \| [^|]*\|$", page, re.MULTILINE))
    assert rows == {
        family.name.removeprefix("kataven_"): family.documentation for family in Metrics().registry.collect()
    }


def test_redis_timeouts_are_documented_in_one_place_with_real_values() -> None:
    patience, docs = RedisTimeouts(), ROOT / "docs"
    longest = patience.reply + patience.slow_max - patience.slow
    table = (docs / "limits.md").read_text().partition("### When Redis is unavailable")[2].partition("\n## ")[0]
    for said in (
        f"| Redis is near and the worker has a spare core | {patience.slow * 1_000:g} ms | {patience.reply:g} s |",
        f"| upper bound | {patience.slow_max:g} s | {longest:g} s, plus {patience.connect:g} s to connect |",
        f"after {patience.reply:g} s without a response",
        f"has been slow for {SLOW_SECONDS:g} s",
    ):
        assert said in table
    others = {page.name: page.read_text() for page in docs.glob("*.md") if page.name != "limits.md"}
    said_again = re.compile(r"(?:answer|reply|response) that takes \d+ ms")
    assert [name for name, page in others.items() if said_again.search(page)] == []


def test_every_command_is_documented(harness: AppHarness) -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    groups = {name: group for name, group in harness.app.cli.commands.items() if isinstance(group, click.Group)}
    ours = {name: group for name, group in groups.items() if any(map(is_ours, group.commands.values()))}
    assert set(ours) >= {"accounts", "migrations"}
    for group_name, group in ours.items():
        for command in group.commands:
            written = rf"(?:flask|kataven) {group_name} [^\n]*\b{command}\b"
            assert re.search(written, pages), f"{group_name} {command}"


def is_ours(command: click.Command) -> bool:
    """Whether the command is part of the project, not of Flask or another library."""
    return command.callback is not None and command.callback.__module__.startswith("kataven.")


def test_every_console_script_is_documented() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    projects = [tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in (".", "sdk")]
    for name in [name for project in projects for name in project.get("scripts", {})]:
        assert f"\n    {name} " in pages, f"no example of {name}"


def test_every_make_target_is_documented() -> None:
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs" / "development.md").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"\bmake {target}\b", pages), target


def test_every_environment_variable_of_gunicorn_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    names = re.findall(
        r"""environ(?:\.get\(|\.setdefault\(|\[)["'](\w+)""", (ROOT / "kataven/serve/gunicorn_conf.py").read_text()
    )
    assert set(names) >= {"PORT", "WORKERS"}
    for name in names:
        assert f"`{name}`" in page


def test_every_decision_is_in_the_index_with_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    expected = []
    for page in sorted(folder.glob("0*.md")):
        title = re.fullmatch(r"# (\d+)\. (.*)", page.read_text().splitlines()[0])
        assert title is not None, f"{page.name} begins with another line than `# <number>. <title>`"
        expected.append((title[1], title[2], page.name))
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert rows == expected


def test_every_runtime_dependency_has_a_documented_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = sorted(re.split(r"[^\w-]", needed, maxsplit=1)[0] for needed in project["dependencies"])
    page = (ROOT / "docs" / "decisions" / "0080-runtime-dependencies.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \| \S", page, re.MULTILINE) == installed


# Issuers.

SIGN_IN_REASONS = {str(reason) for family in (Reason, RoleGap, DiscoveryProblem) for reason in family}
HUB = "https://hub.example.com"


def section(page: str, heading: str) -> str:
    """The part of a page below a heading, up to the next heading of the same level."""
    return (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_sign_in_failure_reason_is_documented_and_on_the_help_page() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section("zitadel.md", "When sign-in fails"), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(SIGN_IN_REASONS)
    assert {anchor for anchor, _, _ in checklist()} == SIGN_IN_REASONS


@pytest.mark.parametrize("page", ["zitadel.md", "issuers.md"])
def test_issuer_pages_name_existing_settings_and_reasons(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert {name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]+)", text)} <= set(Settings.model_fields)
    otherwise = re.findall(r"^\|[^|]*\|[^|]*\| `(\w+)`[^|]*\|$", text, re.MULTILINE)
    assert otherwise
    assert set(otherwise) <= SIGN_IN_REASONS


def test_documented_zitadel_settings_equal_those_of_the_tests() -> None:
    page = (ROOT / "docs" / "zitadel.md").read_text()
    product = issuers.zitadel(HUB)
    asked = product.settings["KATAVEN_HUB_SCOPES"].replace(issuers.PROJECT, "<project id>")
    assert f'KATAVEN_HUB_SCOPES="{asked}"' in page
    assert f"`{issuers.ROLES_IN_ONE}`" in page
    for url in (product.shape.redirect_uri, product.shape.post_logout_uri):
        assert f"`{url}`" in page
    assert set(product.settings) <= set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


@pytest.mark.parametrize("product", ["keycloak", "auth0", "okta"])
def test_documented_issuer_settings_equal_those_of_the_tests(product: str) -> None:
    described = section("issuers.md", product.capitalize())
    made = getattr(issuers, product)(HUB)
    assert made.shape.path.replace("customers", "<realm>") in described
    for name, value in made.settings.items():
        row = re.search(rf"^\| `{name}` \| (.*) \|$", described, re.MULTILINE)
        assert row is not None, f"{name} is missing"
        assert value in row[1] or name == "KATAVEN_OIDC_CLIENT_IDS", f"{name} is not {value}"
