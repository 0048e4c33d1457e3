"""Measures pages of the Hub with Lighthouse: python tools/lighthouse/measure.py [DEV_JSON]

Requires a running `make run` and Chromium. Prints the scores of each page, and what keeps a score below 100. The exit
status is 1 if a score is below `LEAST`. Performance depends on the load of the machine: repeat the measurement.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

FOLDER = Path(__file__).resolve().parent
LEAST = 95
PAGES = {"sign-in": "/sign-in", "overview": "/", "keys": "/settings/api-keys", "docs": "/docs"}
ANONYMOUS = {"sign-in"}
ACCOUNT, USER = "acme", "alice"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_NEXT = re.compile(r'http-equiv="refresh" content="0; url=([^"]+)"')


def session_cookie(hub: str) -> str:
    """Sign in at the development issuer. Returns the cookies of the session."""
    with httpx2.Client(trust_env=False) as client:
        csrf = unescape(_found(_CSRF, client.get(f"{hub}/sign-in").text))
        form = {"csrf": csrf, "account": ACCOUNT, "next": "/"}
        page = client.post(f"{hub}/sign-in", data=form, headers={"Origin": hub})
        url = urlsplit(unescape(_found(_NEXT, page.text)))
        answer = client.post(
            f"{url.scheme}://{url.netloc}{url.path}", data={**dict(parse_qsl(url.query)), "person": USER}
        )
        client.get(answer.headers["Location"])
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    if found is None:
        sys.exit(f"The page does not contain {pattern.pattern}: is `make run` running?")
    return found[1]


def report_of(url: str, cookie: str | None) -> dict[str, Any]:
    """Lighthouse's report on a page, as a desktop."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit("no Chromium on the PATH")
    flags = "--headless=new --no-first-run --no-proxy-server" + (" --no-sandbox" if os.geteuid() == 0 else "")
    with tempfile.TemporaryDirectory() as scratch:
        output, headers = Path(scratch, "report.json"), Path(scratch, "headers.json")
        headers.write_text(json.dumps({"Cookie": cookie} if cookie else {}), "utf-8")
        command = [str(FOLDER / "node_modules" / ".bin" / "lighthouse"), url, "--quiet", "--preset=desktop"]
        command += [f"--chrome-flags={flags}", "--output=json", f"--output-path={output}", f"--extra-headers={headers}"]
        subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": browser})  # noqa: S603
        report: dict[str, Any] = json.loads(output.read_text("utf-8"))
        return report


def main(dev_json: Path) -> int:
    hub = json.loads(dev_json.read_text("utf-8"))["hub_url"]
    cookie, lowest = session_cookie(hub), 100
    for name, path in PAGES.items():
        report = report_of(f"{hub}{path}", None if name in ANONYMOUS else cookie)
        scores = {key: round(100 * (one["score"] or 0)) for key, one in report["categories"].items()}
        lowest = min(lowest, *scores.values())
        print(f"{name:<10}", "  ".join(f"{key} {score}" for key, score in scores.items()))  # noqa: T201
        for key, category in report["categories"].items():
            if scores[key] < 100:
                refs = [ref["id"] for ref in category["auditRefs"] if ref["weight"]]
                weak = [
                    f"{ref} {report['audits'][ref].get('displayValue') or ''}".strip()
                    for ref in refs
                    if (report["audits"][ref]["score"] or 0) < LEAST / 100
                ]
                print(f"{'':<10} {key}: {', '.join(weak)}")  # noqa: T201
    return int(lowest < LEAST)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else Path(".kataven/dev.json")))
