"""Users of the Hub who are signed in, without a browser: each keeps its cookies."""

from __future__ import annotations

import html
import re
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

from kataven.dev.personas import ALICE, Persona
from tests.hub.forms import forms_of
from topologies.http_client import random_address
from topologies.observation import Observation, Recorder

TIMEOUT_SECONDS = 30.0
PAGE = "/agents"
_LEADS_ON = re.compile(r'<meta http-equiv="refresh" content="0; url=([^"]+)">')


class SignInFailed(Exception):
    """Raised if a step of the sign-in did not return what it should. Has the status of the response."""

    def __init__(self, status: int, step: str) -> None:
        super().__init__(f"{step} returned {status}")
        self.status = status


@dataclass
class HubUser:
    """One browser at the Hub on `port`, from an address of its own."""

    port: int
    name: str
    cookies: dict[str, str] = field(default_factory=dict, repr=False)
    address: str = field(default_factory=random_address)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def sign_in(self, person: Persona = ALICE) -> None:
        """The complete flow over the issuer. Raises SignInFailed, or an error of the connection."""
        form = forms_of(self._get("/sign-in", "the sign-in page").text)["/sign-in"]
        sent = self._send("POST", "/sign-in", {**form.hidden, "account": person.account})
        leads_on = _LEADS_ON.search(sent.text)
        if leads_on is None:
            raise SignInFailed(sent.status_code, "the sign-in form")
        asked = urlsplit(html.unescape(leads_on[1]))
        query = {**dict(parse_qsl(asked.query)), "person": person.subject}
        origin = f"{asked.scheme}://{asked.netloc}"
        answer = httpx2.post(f"{origin}{asked.path}", data=query, trust_env=False, timeout=TIMEOUT_SECONDS)
        back = urlsplit(answer.headers["Location"])
        if (done := self._send("GET", f"{back.path}?{back.query}")).status_code != 303:
            raise SignInFailed(done.status_code, "the callback")
        self._get(PAGE, "the first page")

    def read_page(self) -> httpx2.Response:
        """A page for signed-in users. A redirect to the sign-in page means that the session does not exist."""
        return self._send("GET", PAGE)

    def _get(self, path: str, step: str) -> httpx2.Response:
        response = self._send("GET", path)
        if response.status_code != 200:
            raise SignInFailed(response.status_code, step)
        return response

    def _send(self, method: str, path: str, form: dict[str, str] | None = None) -> httpx2.Response:
        headers = {"Host": f"localhost:{self.port}", "Cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        if method == "POST":
            headers |= {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"}
        transport = httpx2.HTTPTransport(local_address=self.address, trust_env=False)
        with httpx2.Client(transport=transport, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            response = client.request(
                method, f"http://127.0.0.1:{self.port}{path}", headers=headers, content=urlencode(form or {}) or None
            )
        for header in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return response


def sign_in_and_record(user: HubUser, recorder: Recorder) -> bool:
    """Sign in once. Returns whether that succeeded."""
    started = time.monotonic()
    status, code = 200, ""
    try:
        user.sign_in()
    except SignInFailed as failed:
        status, code = failed.status, str(failed)
    except (httpx2.HTTPError, OSError, KeyError) as error:
        status, code = 0, type(error).__name__
    recorder.add(Observation("sign-in", user.name, started, time.monotonic(), status, code))
    return status == 200


def read_page_and_record(user: HubUser, recorder: Recorder) -> int:
    """Read a page. Returns the status, or 0 if no response arrived."""
    started = time.monotonic()
    status, code = 0, ""
    try:
        status = user.read_page().status_code
    except (httpx2.HTTPError, OSError) as error:
        code = type(error).__name__
    recorder.add(Observation("hub", user.name, started, time.monotonic(), status, code))
    return status
