"""The demonstration's pages, as a customer would write them: the snippet in the HTML, the secret key on the server."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import httpx2
from flask import Flask, Response, jsonify, render_template
from werkzeug.wrappers import Response as AnyResponse

from kataven.dev.loopback import HOSTS
from kataven.widget.embed import snippet

TIMEOUT_SECONDS = 10.0
USER = {"external_user_id": "demo-user-17", "display_name": "Uma Demo", "email": "uma@acme.example"}


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer's configuration: the API's URL, a public key for its pages, and a secret key for its server."""

    api_url: str
    widget_key: str
    api_key: str = field(repr=False)


def create_demo(customer: Customer) -> Flask:
    """The site as a WSGI application. It accepts only loopback host names."""
    app = Flask(__name__)
    app.config.update(TRUSTED_HOSTS=[*HOSTS], MAX_CONTENT_LENGTH=1024)
    site = _Site(customer)
    app.add_url_rule("/", view_func=site.page)
    app.add_url_rule("/healthz", view_func=lambda: jsonify(status="ok"))  # sends no request to the API
    app.add_url_rule("/user-token", view_func=site.user_token, methods=["POST"])
    return app


class _Site:
    def __init__(self, customer: Customer) -> None:
        self._customer = customer

    def page(self) -> AnyResponse:
        """The page with the snippet, under the policy that docs/widget.md recommends."""
        nonce = secrets.token_urlsafe(16)
        agent_id = self._agent_id()
        line = snippet(self._customer.api_url, self._customer.widget_key, agent_id)
        page = render_template("page.html", customer=self._customer, agent_id=agent_id, snippet=line, nonce=nonce)
        response = Response(page, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src https:; "
            f"connect-src 'self' {self._customer.api_url}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    def user_token(self) -> AnyResponse:
        """A user token for a user who is signed in at the customer's site."""
        created = self._request("POST", "/v1/widget/auth/user-token", USER)
        if created.is_success:
            return jsonify(created.json())
        response = jsonify(code=created.json().get("code", "unknown"))
        response.status_code = 502
        return response

    def _agent_id(self) -> str | None:
        """The first active agent whose widget is enabled."""
        agents = self._request("GET", "/v1/agents")
        for agent in agents.json() if agents.is_success else ():
            settings = self._request("GET", f"/v1/agents/{agent['id']}/widget-settings")
            if agent["status"] == "active" and settings.is_success and settings.json()["widget_enabled"]:
                return str(agent["id"])
        return None

    def _request(self, method: str, path: str, body: object = None) -> httpx2.Response:
        authorization = {"Authorization": f"Bearer {self._customer.api_key}"}
        with httpx2.Client(base_url=self._customer.api_url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            return client.request(method, path, json=body, headers=authorization)
