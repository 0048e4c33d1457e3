"""A FastAPI or Starlette application that embeds Kataven."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from kataven.asgi import KEYS_ONLY, READ, KatavenMiddleware, context_of, public, requires
from kataven.asgi.selection import RouteChanged, SecondPass, undeclared_routes
from kataven.dev.personas import ALICE
from kataven.settings import Settings
from kataven.web import pipeline
from kataven.web.access import PUBLIC
from kataven.web.membership import Membership
from tests.embedding.asgi_client import AsgiClient
from tests.support.app_harness import AppHarness


@pytest.fixture
def key(harness: AppHarness) -> str:
    return harness.new_key("acme")


@pytest.fixture(autouse=True)
def _left(asgi_shop: AsgiClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Middleware without a lifespan leaves the fleet when the interpreter exits; in a test, at its end."""
    joined: list[Membership] = []
    join = Membership.join

    def remember(membership: Membership) -> bool:
        now = join(membership)
        if now:
            joined.append(membership)
        return now

    monkeypatch.setattr(Membership, "join", remember)
    yield
    for membership in joined:
        membership.leave()


def starlette(settings: Settings, *routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=list(routes))
    app.add_middleware(KatavenMiddleware, settings=settings, **options)
    return app


def ran(_: Any) -> PlainTextResponse:
    return PlainTextResponse("ran")


def never(_: Any) -> PlainTextResponse:
    raise AssertionError("an endpoint ran without admission")


def test_endpoint_receives_the_principal_and_the_account(asgi_shop: AsgiClient, key: str) -> None:
    response = asgi_shop.get("/v1/agents", key)
    assert response.get_json()["account"] == "acme"
    assert response.headers["RateLimit"].startswith('"per-minute"')
    assert response.headers["X-Request-ID"]
    assert asgi_shop.get("/open").get_json() == {"principal": None}


def test_key_with_scopes_reaches_only_endpoints_that_require_one_of_them(
    asgi_shop: AsgiClient, harness: AppHarness
) -> None:
    for scopes, expected in ((["notes:write"], (200, 403)), (["agents:read"], (403, 403)), (None, (200, 200))):
        headers = {"Authorization": f"Bearer {harness.new_key('acme', scopes=scopes)}"}
        statuses = tuple(asgi_shop.call("GET", path, headers).status_code for path in ("/v1/scoped", "/v1/agents"))
        assert statuses == expected


def test_conditions_of_a_key_apply(asgi_shop: AsgiClient, harness: AppHarness) -> None:
    key, restricted = harness.new_key("acme"), harness.new_key("acme", allowed_addresses=["203.0.113.0/24"])
    for headers, code in (
        ({"Authorization": f"Bearer {key}", "Origin": "https://acme.com"}, "browser_use"),
        ({"Authorization": f"Bearer {restricted}"}, "address_not_allowed"),
    ):
        refused = asgi_shop.call("GET", "/v1/agents", headers)
        assert (refused.status_code, refused.get_json()["code"]) == (403, code)


def test_responses_of_the_router_itself_require_no_credential(asgi_shop: AsgiClient) -> None:
    assert asgi_shop.get("/missing").status_code == 404
    assert asgi_shop.get("/v1/agents/").status_code == 307


def test_credential_is_checked_before_the_frameworks_validation(asgi_shop: AsgiClient, key: str) -> None:
    assert asgi_shop.get("/v1/agents/no-uuid").status_code == 401
    assert asgi_shop.get("/v1/agents/no-uuid", key).status_code == 422


def test_endpoint_without_a_declaration_is_a_startup_error_that_names_it(configured: Settings) -> None:
    with AsgiClient(starlette(configured, Route("/a", never), Route("/b", public(ran)))) as client:
        assert client.started["type"] == "lifespan.startup.failed"
        assert client.started["message"].endswith("@public:\n  GET /a")


def test_endpoint_without_a_declaration_never_runs_without_a_lifespan(configured: Settings, key: str) -> None:
    client = AsgiClient(starlette(configured, Route("/a", never)))
    response = client.get("/a", key)
    assert response.status_code == 403
    assert "GET /a declares no access" in response.get_json()["detail"]
    client.loop.close()


def test_endpoint_without_a_declaration_is_public_if_the_middleware_is_not_strict(configured: Settings) -> None:
    with AsgiClient(starlette(configured, Route("/a", lambda _: PlainTextResponse("open")), strict=False)) as client:
        assert client.get("/a").body == b"open"


def test_public_paths_need_no_declaration(configured: Settings) -> None:
    app = FastAPI()
    app.add_middleware(
        KatavenMiddleware,
        settings=configured,
        public_paths=("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"),
    )
    with AsgiClient(app) as client:
        assert client.get("/openapi.json").status_code == 200


def test_methods_of_a_class_based_endpoint_declare_their_own_access(configured: Settings, key: str) -> None:
    class Things(HTTPEndpoint):
        @public
        async def get(self, request: Any) -> PlainTextResponse:
            return ran(request)

        @requires(KEYS_ONLY)
        async def post(self, request: Any) -> PlainTextResponse:
            return ran(request)

        async def delete(self, request: Any) -> PlainTextResponse:
            return never(request)

    app = starlette(configured, Route("/things", Things))
    assert list(undeclared_routes(app)) == [("DELETE", "/things")]
    client = AsgiClient(app)
    with_key = {"Authorization": f"Bearer {key}"}
    asked = [("GET", {}), ("HEAD", {}), ("POST", {}), ("POST", with_key), ("DELETE", with_key)]
    assert [client.call(method, "/things", headers).status_code for method, headers in asked] == [
        200,
        200,
        401,
        200,
        403,
    ]
    client.loop.close()


def test_endpoints_of_mounts_and_included_routers_are_found(configured: Settings, key: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("file")
    outer, inner = APIRouter(prefix="/outer"), APIRouter(prefix="/inner")
    inner.get("/guarded")(requires(READ)(lambda: "ran"))
    inner.get("/forgotten")(lambda: never(None))
    outer.include_router(inner)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(outer, prefix="/v1")
    app.mount("/sub", Starlette(routes=[Route("/guarded", requires(READ)(ran)), Route("/forgotten", never)]))
    app.mount("/router", Router(routes=[Mount("/deep", routes=[Route("/guarded", requires(READ)(ran))])]))
    app.mount("/files", public(StaticFiles(directory=tmp_path)))
    app.mount("/hidden", StaticFiles(directory=tmp_path))
    app.add_middleware(KatavenMiddleware, settings=configured)
    assert sorted(path for _, path in undeclared_routes(app)) == [
        "/hidden",
        "/sub/forgotten",
        "/v1/outer/inner/forgotten",
    ]
    client = AsgiClient(app)
    for path in ("/v1/outer/inner/guarded", "/sub/guarded", "/router/deep/guarded"):
        assert (client.get(path).status_code, client.get(path, key).status_code) == (401, 200), path
    for path in ("/v1/outer/inner/forgotten", "/sub/forgotten", "/hidden/file.txt"):
        assert client.get(path, key).status_code == 403, path
    assert client.get("/files/file.txt").body == b"file"
    assert client.get("/sub/missing").status_code == 404
    client.loop.close()


def test_route_that_sets_no_endpoint_is_rejected(configured: Settings, key: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.frontend("/site", directory=tmp_path)
    app.add_middleware(KatavenMiddleware, settings=configured)
    client = AsgiClient(app)
    assert client.get("/site/index.html", key).status_code == 403
    client.loop.close()


def test_request_can_not_reach_another_endpoint_than_the_admitted_one() -> None:
    scope = SecondPass({"type": "http"}, admitted=ran)
    scope.update({"endpoint": ran})
    with pytest.raises(RouteChanged):
        scope.update({"endpoint": never})


class Stamp(BaseHTTPMiddleware):
    """Middleware with a task group."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Stamp"] = "seen"
        return response


@pytest.mark.parametrize("inside", [False, True])
def test_other_middleware_may_be_outside_or_inside(configured: Settings, key: str, inside: bool) -> None:
    app = Starlette(routes=[Route("/a", requires(READ)(ran))])
    added = [lambda: app.add_middleware(KatavenMiddleware, settings=configured), lambda: app.add_middleware(Stamp)]
    for add in reversed(added) if inside else added:  # what is added last is outside
        add()
    with AsgiClient(app) as client:
        accepted, refused = client.get("/a", key), client.get("/a")
    assert (accepted.status_code, accepted.body, accepted.headers["X-Stamp"]) == (200, b"ran", "seen")
    assert (refused.status_code, "X-Stamp" in refused.headers) == (401, not inside)


def test_websocket_is_rejected(configured: Settings) -> None:
    app = starlette(configured, WebSocketRoute("/ws", never))
    client = AsgiClient(app)
    assert client.open_websocket("/ws") == [{"type": "websocket.close", "code": 1008}]
    client.loop.close()


def test_header_name_with_an_underscore_is_not_the_credential(asgi_shop: AsgiClient, harness: AppHarness) -> None:
    token = harness.issuer.token(ALICE)
    headers = {"Authorization": f"Bearer {token}"}
    sent = asgi_shop.call("GET", "/v1/agents", headers, raw_headers=((b"x_account_id", b"acme"),))
    assert (sent.status_code, sent.get_json()["code"]) == (400, "missing_account")
    assert asgi_shop.call("GET", "/v1/agents", {**headers, "X-Account-ID": "acme"}).status_code == 200


def test_application_without_a_router_must_pass_its_access(configured: Settings, key: str) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b"none" if context_of(scope).admitted is None else context_of(scope).principal.account.encode()
        await PlainTextResponse(body)(scope, receive, send)

    with AsgiClient(KatavenMiddleware(bare, settings=configured)) as client:
        assert client.started["type"] == "lifespan.startup.failed"
        assert "pass `access`" in client.started["message"]
        with pytest.raises(RuntimeError, match="pass `access`"):
            client.get("/", key)
    access = {"/": READ, "/open": PUBLIC}
    with AsgiClient(
        KatavenMiddleware(bare, settings=configured, access=lambda scope: access.get(scope["path"]))
    ) as client:
        assert client.get("/").status_code == 401
        assert client.get("/", key).body == b"acme"
        assert client.get("/open").body == b"none"
        assert client.get("/other", key).status_code == 403


def test_revoked_key_is_rejected_by_the_application_once_the_receipt_is_out(
    asgi_shop: AsgiClient, harness: AppHarness
) -> None:
    alice = harness.user(ALICE)
    created = alice.post("/v1/api-keys", {"name": "shop", "expiry": "never"}).get_json()
    for _ in range(2):
        assert asgi_shop.get("/v1/agents", created["key"]).status_code == 200
    receipt = alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True}).get_json()["receipt"]
    assert receipt["workers"] >= 2  # the API, and the application
    assert receipt["acknowledged"] == receipt["workers"]
    refused = asgi_shop.get("/v1/agents", created["key"])
    assert (refused.status_code, refused.get_json()["code"]) == (403, "revoked_credential")


def test_slot_is_released_after_the_last_byte_an_error_and_a_disconnect(
    configured: Settings,
    harness: AppHarness,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def stream(_: Any) -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    def fail(_: Any) -> PlainTextResponse:
        raise ValueError

    app = starlette(
        configured, Route("/stream", requires(READ)(stream)), Route("/fail", requires(READ)(fail)), threads=1
    )
    key = harness.new_key("globex")
    # With one thread, the next request is decided after the slot of the disconnected one is released.
    with AsgiClient(app) as client:
        first = concurrent_left(client.get("/stream", key))
        with pytest.raises(ValueError):  # noqa: PT011 - Starlette sends 500 and raises it for the server
            client.get("/fail", key)
        assert '"route":"/fail","status":500' in capfd.readouterr().err
        assert concurrent_left(client.get("/stream", key)) == first

        limiting, disconnected, limit = threading.Event(), threading.Event(), pipeline.limit

        def limit_slowly() -> None:
            limiting.set()
            disconnected.wait(60)
            limit()

        monkeypatch.setattr(pipeline, "limit", limit_slowly)

        async def disconnect() -> None:
            scope = client.scope("http", "/stream", [(b"authorization", f"Bearer {key}".encode())])
            request = asyncio.create_task(app(scope | {"method": "GET", "scheme": "http"}, no_receive, no_send))
            await asyncio.to_thread(limiting.wait, 60)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request

        client.loop.run_until_complete(disconnect())
        disconnected.set()
        monkeypatch.undo()
        assert concurrent_left(client.get("/stream", key)) == first


async def no_receive() -> Any:
    raise AssertionError("the request was not admitted yet")


async def no_send(_: Any) -> None:
    raise AssertionError("the client is disconnected")


def concurrent_left(response: Any) -> str:
    return str(response.headers["RateLimit"].partition('"concurrent";r=')[2])
