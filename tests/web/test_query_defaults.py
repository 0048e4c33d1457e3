"""A request without a query string gets the defaults of its query model, which all requests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request as WerkzeugRequest

import app  # noqa: F401  loads every query model
from kataven.web.problems import InvalidRequest
from kataven.web.schema import Query, read_query


class OptionalQuery(Query):
    limit: int = 20


class RequiredQuery(Query):
    name: str


def _request(query: str) -> Any:
    return WerkzeugRequest(EnvironBuilder(path="/", query_string=query).get_environ())


def _subclasses(model: type[Query]) -> Iterator[type[Query]]:
    for each in model.__subclasses__():
        yield each
        yield from _subclasses(each)


def test_requests_without_parameters_share_the_defaults() -> None:
    first, second = read_query(_request(""), OptionalQuery), read_query(_request(""), OptionalQuery)
    assert first is second
    assert first.limit == 20


def test_shared_defaults_cannot_be_changed() -> None:
    shared = read_query(_request(""), OptionalQuery)
    with pytest.raises(ValidationError):
        shared.limit = 1
    assert read_query(_request("limit=3"), OptionalQuery).limit == 3
    assert read_query(_request(""), OptionalQuery).limit == 20


def test_missing_parameter_is_named_in_each_request() -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest) as caught:
            read_query(_request(""), RequiredQuery)
        assert [error.field for error in caught.value.errors] == ["name"]


def test_defaults_of_all_query_models_are_immutable_and_constant() -> None:
    models = [model for model in _subclasses(Query) if model.__module__.startswith("kataven.")]
    assert {"PageQuery", "UsageQuery", "VerifyQuery"} <= {model.__name__ for model in models}
    for model in models:
        assert model.model_config.get("frozen")
        for name, field in model.model_fields.items():
            assert field.default_factory is None, f"{model.__name__}.{name}"
            if not field.is_required():
                assert isinstance(field.default, str | int | bool | None), f"{model.__name__}.{name}"
