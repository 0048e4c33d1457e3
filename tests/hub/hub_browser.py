"""A simulated browser on Flask's test client: keeps cookies and submits the hidden fields of forms."""

from __future__ import annotations

import html
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx2
from flask import Flask
from werkzeug.test import TestResponse

from kataven.dev.personas import Persona
from tests.hub.forms import forms_of

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_LEADS_ON = re.compile(r'<meta http-equiv="refresh" content="0; url=([^"]+)">')
_FORM_ID = re.compile(r'name="form_id" value="([^"]+)"')

_ADDRESSES = ipaddress.ip_network("198.18.0.0/15").hosts()


class HubBrowser:
    """One browser at the Hub at `url`."""

    def __init__(self, app: Flask, url: str) -> None:
        self.url = url
        self.client = app.test_client()
        # A separate client address for each browser, because addresses have a budget.
        self.client.environ_base["REMOTE_ADDR"] = str(next(_ADDRESSES))
        self.csrf = ""
        self.form_id = ""
        self._hidden: dict[str, dict[str, str]] = {}
        self._unread: list[str] = []
        """Visited pages whose forms no request needed yet: parsing a page takes longer than requesting it."""

    def get(self, path: str, **options: Any) -> TestResponse:
        return self._seen(self.client.get(path, base_url=self.url, **options))

    def post(self, path: str, form: Mapping[str, str] | None = None, **options: Any) -> TestResponse:
        """Submit a form with the hidden fields of its page."""
        hidden = {**self._hidden_fields(path), "csrf": self.csrf, "form_id": self.form_id}
        headers = {"Origin": self.url, **options.pop("headers", {})}
        data = {**hidden, **(form or {})}
        return self._seen(self.client.post(path, base_url=self.url, data=data, headers=headers, **options))

    def sign_in(self, person: Persona, account: str | None = None) -> Self:
        """Sign in via the issuer."""
        self.get("/sign-in")
        to_issuer = redirect_target(self.post("/sign-in", {"account": account or person.account}))
        assert self.get(self.sign_in_at_issuer(to_issuer, person)).status_code == 303
        return self

    def sign_in_at_issuer(self, url: str, person: Persona) -> str:
        """Sign in as `person` at the issuer. Returns the callback path at the Hub."""
        asked = urlsplit(url)
        query = {**dict(parse_qsl(asked.query)), "person": person.subject}
        response = httpx2.post(f"{asked.scheme}://{asked.netloc}{asked.path}", data=query, trust_env=False)
        back = urlsplit(response.headers["Location"])
        assert f"{back.scheme}://{back.netloc}" == self.url
        return f"{back.path}?{back.query}"

    def _seen(self, response: TestResponse) -> TestResponse:
        if found := _CSRF.search(response.text):
            self.csrf = html.unescape(found[1])
        if found := _FORM_ID.search(response.text):
            self.form_id = html.unescape(found[1])
        if "<form" in response.text:
            self._unread.append(response.text)
        return response

    def _hidden_fields(self, action: str) -> dict[str, str]:
        """The hidden fields of the latest form with this action on the visited pages."""
        for page in self._unread:
            self._hidden |= {action: form.hidden for action, form in forms_of(page).items()}
        self._unread.clear()
        return self._hidden.get(action, {})


def redirect_target(response: TestResponse) -> str:
    """The URL to which the page refreshes."""
    found = _LEADS_ON.search(response.text)
    assert found is not None, response.text
    return html.unescape(found[1])
