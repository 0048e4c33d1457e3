"""`/.well-known/security.txt` of the API and the Hub (RFC 9116)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

import app as factory
from kataven import settings
from kataven.settings import SettingsError
from kataven.web.paths import SECURITY_TXT
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness

CONTACT = {"KATAVEN_SECURITY_CONTACT": "mailto:security@example.com"}
POLICY = {"KATAVEN_SECURITY_POLICY": "https://example.com/security"}
URLS = {"KATAVEN_PUBLIC_URL": "https://api.example.com", "KATAVEN_HUB_URL": "https://hub.example.com"}


def without_contact(harness: AppHarness) -> dict[str, str]:
    return {name: value for name, value in harness.environ.items() if name not in CONTACT}


@contextmanager
def both_apps(harness: AppHarness, changes: dict[str, str]) -> Iterator[list[Flask]]:
    configured = settings.load({**without_contact(harness), **URLS, **changes})
    apps = [factory.create_api(configured), factory.create_hub(configured)]
    yield apps
    for application in apps:
        application.extensions[EXTENSION].stop()


def test_api_and_hub_publish_the_contact(harness: AppHarness) -> None:
    with both_apps(harness, CONTACT | POLICY) as apps:
        for application in apps:
            response = application.test_client().get(SECURITY_TXT)
            assert response.status_code == 200
            assert response.content_type == "text/plain; charset=utf-8"
            fields = re.findall(r"^([A-Z][\w-]*): (\S.*)$", response.text, re.MULTILINE)
            assert len(fields) == len(response.text.splitlines()), "every line is a field"
            assert [value for name, value in fields if name == "Canonical"] == [
                f"{url}{SECURITY_TXT}" for url in URLS.values()
            ]
            once = {name: value for name, value in fields if name != "Canonical"}
            expires = datetime.fromisoformat(once.pop("Expires"))
            assert timedelta() < expires - datetime.now(UTC) < timedelta(days=365)
            assert once == {
                "Contact": "mailto:security@example.com",
                "Preferred-Languages": "en",
                "Policy": "https://example.com/security",
            }


def test_without_a_contact_the_path_returns_404(harness: AppHarness) -> None:
    with both_apps(harness, {}) as apps:
        for application in apps:
            response = application.test_client().get(SECURITY_TXT)
            assert (response.status_code, response.get_json()["code"]) == (404, "not_found")
            assert response.get_json()["detail"] == "No resource exists at this path."


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"KATAVEN_SECURITY_CONTACT": "security@example.com"}, "KATAVEN_SECURITY_CONTACT: must be a URI"),
        ({"KATAVEN_SECURITY_CONTACT": "mailto:a@example.com\nPolicy: https://x"}, "KATAVEN_SECURITY_CONTACT: must be"),
        ({"KATAVEN_SECURITY_CONTACT": "http://example.com"}, "KATAVEN_SECURITY_CONTACT: must be"),
        (CONTACT | {"KATAVEN_SECURITY_POLICY": "example.com"}, "KATAVEN_SECURITY_POLICY: must be an https URL"),
        (POLICY, "KATAVEN_SECURITY_CONTACT: is missing"),
    ],
)
def test_an_invalid_contact_is_a_configuration_problem(
    harness: AppHarness, changes: dict[str, str], problem: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)):
        settings.load({**without_contact(harness), **changes})
