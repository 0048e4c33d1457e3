"""A blueprint of another package, which tests add to the API."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Response

from kataven.web.access import READ, WRITE
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, SingleLine, View, write_json


class GreetingInput(Input):
    """A greeting to send."""

    text: Annotated[str, SingleLine(100)]


class GreetingView(View):
    """A greeting."""

    text: str
    account: str


def create(name: str = "greetings", path: str = "/v1/greetings", **options: Any) -> ApiBlueprint:
    """A new blueprint for each application: Flask rejects changes of one that is registered."""
    blueprint = ApiBlueprint(name, __name__, "greeting", "Greetings.")

    @blueprint.operation(
        "GET", path, access=READ, summary="Read", response=ResponseSpec(200, "It.", options.get("model", GreetingView))
    )
    def read_greeting(context: RequestContext, **_: Any) -> Response:
        return write_json({"text": "hello", "account": context.account.account})

    @blueprint.operation(
        "POST",
        path,
        access=WRITE,
        summary="Send",
        response=ResponseSpec(201, "It.", GreetingView),
        body=GreetingInput,
    )
    def send_greeting(context: RequestContext, body: GreetingInput, **_: Any) -> Response:
        return write_json({"text": body.text, "account": context.account.account}, 201)

    return blueprint


blueprint = create()
