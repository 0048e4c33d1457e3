"""Blueprints of other packages in the API, held to the same rules as the API's own.

A blueprint is passed to `create_api`, or found by its entry point: a package lists it in the group
`kataven.blueprints`, and `KATAVEN_BLUEPRINTS` names it. An installed package therefore adds no route unless an operator
names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args, get_origin

from flask import Flask
from werkzeug.routing import Rule

from kataven.web.openapi import published_name
from kataven.web.operation import ApiBlueprint, Operation, operation_of

GROUP = "kataven.blueprints"
PREFIX = "/v1/"
"""Paths of other packages start with it, so that they also exist under the aliases, and can't shadow `/healthz`."""

_PARAMETER = re.compile(r"<[^>]*>")
_SUPPORTED = re.compile(r"(?:[^<>]|<\w+>)*")


class BlueprintRefused(Exception):
    """Raised at startup for a blueprint that can't be added. The message names the blueprint and the fix."""


def register_blueprints(
    app: Flask, own: tuple[ApiBlueprint, ...], given: Iterable[ApiBlueprint], names: Iterable[str]
) -> tuple[ApiBlueprint, ...]:
    """Register the API's own blueprints, the given ones, and those of the entry points `names`. Returns all of them.

    Raises BlueprintRefused if two have the same name, path, operation or schema, or if a route declares no access.
    """
    for blueprint in own:
        app.register_blueprint(blueprint)
    rules = {_shape(rule, method): rule.endpoint for rule in app.url_map.iter_rules() for method in _methods(rule)}
    others = (*given, *(_load(name) for name in names))
    for blueprint in others:
        _register(app, blueprint, rules)
    if others:
        _check_document(app)
    return (*own, *others)


def scopes_of(names: Iterable[str]) -> tuple[str, ...]:
    """The scopes that the blueprints of these entry points require. Raises BlueprintRefused."""
    return tuple(sorted(scope for name in names for scope in _load(name).scopes))


def _load(name: str) -> ApiBlueprint:
    found: list[EntryPoint] = list(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        installed = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        raise BlueprintRefused(
            f"KATAVEN_BLUEPRINTS: {len(found)} installed packages have a blueprint {name!r} in the entry-point group "
            f"{GROUP!r}; exactly one must. Installed: {installed}"
        )
    loaded: ApiBlueprint = found[0].load()
    return loaded


def _register(app: Flask, blueprint: ApiBlueprint, rules: dict[tuple[str, str], str]) -> None:
    if not isinstance(blueprint, ApiBlueprint):
        raise BlueprintRefused(f"{blueprint!r} is not an ApiBlueprint; see docs/new-endpoint.md")
    if blueprint.name in app.blueprints:
        raise BlueprintRefused(f"two blueprints are named {blueprint.name!r}; rename one")
    before = {id(rule) for rule in app.url_map.iter_rules()}  # rules are not hashable
    app.register_blueprint(blueprint)
    for rule in app.url_map.iter_rules():
        if id(rule) not in before:
            _check_rule(app, rule, rules)


def _check_rule(app: Flask, rule: Rule, rules: dict[tuple[str, str], str]) -> None:
    if operation_of(app.view_functions[rule.endpoint]) is None:
        raise BlueprintRefused(f"{rule.endpoint}: {rule.rule} declares no access; add it with `@blueprint.operation`")
    if not rule.rule.startswith(PREFIX):
        raise BlueprintRefused(f"{rule.endpoint}: the path {rule.rule} must start with {PREFIX}")
    if _SUPPORTED.fullmatch(rule.rule) is None:
        raise BlueprintRefused(f"{rule.endpoint}: {rule.rule} has a converter; write parameters as <name> or <name_id>")
    if not rule.provide_automatic_options:  # type: ignore[attr-defined]  # Flask sets it
        raise BlueprintRefused(
            f"{rule.endpoint}: {rule.rule} declares OPTIONS, which requires no credential; remove it: every path"
            " has a response to OPTIONS"
        )
    for method in _methods(rule):
        other = rules.setdefault(_shape(rule, method), rule.endpoint)
        if other != rule.endpoint:
            raise BlueprintRefused(f"{rule.endpoint} and {other} both declare {method} {rule.rule}; change one path")


def _methods(rule: Rule) -> frozenset[str]:
    return frozenset(rule.methods or ()) - {"HEAD", "OPTIONS"}


def _shape(rule: Rule, method: str) -> tuple[str, str]:
    """Equal for rules that match the same requests: the names of parameters don't matter."""
    return method, _PARAMETER.sub("<>", rule.rule)


def _check_document(app: Flask) -> None:
    """The OpenAPI document names schemas by their class, and operations by their handler."""
    classes: dict[str, type] = {}
    endpoints: dict[str, str] = {}
    for endpoint, view in app.view_functions.items():
        operation = operation_of(view)
        if operation is None:
            continue
        other_endpoint = endpoints.setdefault(operation.operation_id, endpoint)
        if other_endpoint != endpoint:
            raise BlueprintRefused(
                f"{other_endpoint} and {endpoint} both are the operation {operation.operation_id!r}; rename one handler"
            )
        for model in _models(operation):
            name = published_name(model.__name__)
            other = classes.setdefault(name, model)
            if other is not model:
                raise BlueprintRefused(
                    f"{other.__module__} and {model.__module__} both have a model that is published as {name!r}; "
                    "rename one"
                )


def _models(operation: Operation) -> list[type]:
    declared: list[Any] = [operation.body, operation.response.model, *(other.model for other in operation.others)]
    return [get_args(model)[0] if get_origin(model) is list else model for model in declared if model is not None]
