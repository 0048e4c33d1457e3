"""One surface, twice; and a package that needs nothing of the product around it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any, get_args, get_type_hints

import pytest

from kataven import client
from kataven.api.agents import AgentView
from kataven.api.api_keys import ApiKeyView
from kataven.api.me import MeView
from kataven.api.widget_keys import ChangedWidgetKeyView, NewWidgetKeyView, RemovedWidgetKeyView
from kataven.api.widget_settings import BrandingView
from kataven.client import asynchronous, errors, fields, models, sync
from kataven.web.inputs.agents import AgentInput
from kataven.web.inputs.branding import BrandingPatch
from kataven.web.inputs.widget_keys import WidgetKeyPatch
from kataven.web.problems import KINDS

FORBIDDEN = ("flask", "werkzeug", "sqlalchemy", "psycopg2", "redis", "grpc", "pydantic", "mcp")
PAIRS = [
    (sync.KatavenClient, asynchronous.AsyncKatavenClient),
    (sync.Agents, asynchronous.Agents),
    (sync.WidgetKeys, asynchronous.WidgetKeys),
    (sync.WidgetSettings, asynchronous.WidgetSettings),
    (sync.ApiKeys, asynchronous.ApiKeys),
]


def methods(kind: type) -> dict[str, tuple[str, str | None]]:
    found = {}
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_") or name == "__init__":
            signature = str(inspect.signature(method)).replace("AsyncIterator", "Iterator")
            found[name] = (signature, inspect.getdoc(method))
    return found


@pytest.mark.parametrize(("waits", "awaits"), PAIRS, ids=[pair[0].__name__ for pair in PAIRS])
def test_both_clients_have_one_surface(waits: type, awaits: type) -> None:
    assert methods(waits) == methods(awaits)


def test_everything_that_reaches_the_network_is_awaited() -> None:
    for _, awaits in PAIRS:
        for name, method in inspect.getmembers(awaits, inspect.isfunction):
            if not name.startswith("_") and name != "list":
                assert inspect.iscoroutinefunction(method), name


def test_importing_it_imports_nothing_of_the_product() -> None:
    ask = "import sys, kataven.client; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.partition(".")[0] in FORBIDDEN]
    assert not [name for name in loaded if re.match(r"kataven\.(?!client\b)", name)]


def test_everything_public_is_exported() -> None:
    family = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    shapes = {name for name, kind in vars(models).items() if hasattr(kind, "__dataclass_fields__")}
    assert family | shapes <= set(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_the_family_is_drawn_as_it_is() -> None:
    drawn = re.findall(
        r"([A-Z]\w+(?:Error|Failed|TimedOut|Answer))\s+raised|([A-Z]\w+Error)\s+(?:\d|5xx)", errors.__doc__
    )
    family = {kind.__name__ for kind in descendants(errors.KatavenError)}
    assert {name for names in drawn for name in names if name} == family


def descendants(kind: type) -> set[type]:
    return {kind for child in kind.__subclasses__() for kind in ({child} | descendants(child))}


@pytest.mark.parametrize(
    ("model", "view"),
    [
        (models.Agent, AgentView),
        (models.NewWidgetKey, NewWidgetKeyView),
        (models.WidgetKey, ChangedWidgetKeyView),
        (models.RemovedWidgetKey, RemovedWidgetKeyView),
        (models.WidgetSettings, BrandingView),
        (models.ApiKey, ApiKeyView),
        (models.Me, MeView),
    ],
)
def test_models_have_the_fields_that_the_api_answers(model: Any, view: Any) -> None:
    assert set(model.__dataclass_fields__) - {"etag", "receipt"} == set(view.model_fields) - {"receipt"}


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (fields.AgentChanges, AgentInput),
        (fields.WidgetKeyChanges, WidgetKeyPatch),
        (fields.WidgetSettingsChanges, BrandingPatch),
    ],
)
def test_what_can_be_sent_is_what_the_api_takes(sent: Any, taken: Any) -> None:
    hints = get_type_hints(sent)
    assert set(hints) == set(taken.model_fields)
    for name, hint in hints.items():
        choices = getattr(taken.model_fields[name].annotation, "__members__", None)
        if choices is not None:
            assert {str(choice) for choice in choices.values()} == set(get_args(hint)), name


def test_409_raises_conflict_error() -> None:
    problem = errors.Problem(status=409, code="conflict", detail="The agent is archived. Restore it first.")
    error = errors.error_for(problem)
    assert type(error) is errors.ConflictError
    assert str(error) == "409 conflict: The agent is archived. Restore it first."


def test_every_status_that_the_api_answers_has_an_error_of_its_own() -> None:
    for code, kind in KINDS.items():
        problem = errors.Problem(status=kind.status, code=code, detail="")
        assert type(errors.error_for(problem)) is not errors.ApiError or kind.status == 405
