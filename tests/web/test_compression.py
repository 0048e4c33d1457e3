"""gzip: only if the client accepts it, where it saves bytes, and never for secrets."""

from __future__ import annotations

import gzip
import json

import pytest

from kataven.web.compression import MIN_BYTES
from tests.support.app_harness import AppHarness, Caller

LARGE = "Be brief. " * MIN_BYTES
SECRET_FIELDS = {"key", "snippet", "token", "user_token", "visitor_token", "refresh_token"}


@pytest.fixture
def large(acme_key: Caller) -> str:
    return f"/v1/agents/{acme_key.post('/v1/agents', {'name': 'Wordy', 'system_prompt': LARGE}).get_json()['id']}"


def test_large_response_is_compressed_if_the_client_accepts_gzip(acme_key: Caller, large: str) -> None:
    plain = acme_key.get(large)
    packed = acme_key.get(large, headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert int(packed.headers["Content-Length"]) == len(packed.data) < len(plain.data)
    for response in (plain, packed):
        assert "Accept-Encoding" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("GZIP;q=0.1", True),
        ("*", True),
        ("br, *;q=0.5", True),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity, gzip;q=0.5", False),
        ("br", False),
        ("*;q=0", False),
    ],
)
def test_accept_encoding_decides_whether_a_response_is_compressed(
    acme_key: Caller, large: str, accepted: str, is_packed: bool
) -> None:
    response = acme_key.get(large, headers={"Accept-Encoding": accepted})
    assert ("Content-Encoding" in response.headers) == is_packed
    assert "Accept-Encoding" in response.headers["Vary"]


def test_small_response_is_not_compressed(acme_key: Caller) -> None:
    response = acme_key.get("/v1/me", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in response.headers
    assert "Vary" not in response.headers


def test_each_content_coding_has_its_own_etag_and_both_match_if_match(acme_key: Caller, large: str) -> None:
    plain = acme_key.get(large).headers["ETag"]
    packed = acme_key.get(large, headers={"Accept-Encoding": "gzip"}).headers["ETag"]
    assert plain != packed
    unchanged = acme_key.get(large, headers={"Accept-Encoding": "gzip", "If-None-Match": packed})
    assert (unchanged.status_code, unchanged.headers["ETag"], unchanged.data) == (304, packed, b"")
    assert "Accept-Encoding" in unchanged.headers["Vary"]
    assert acme_key.get(large, headers={"If-None-Match": packed}).status_code == 200
    assert acme_key.patch(large, {"name": "One"}, headers={"If-Match": packed}).status_code == 200
    assert acme_key.patch(large, {"name": "Two"}, headers={"If-Match": plain}).status_code == 412


def test_equal_bodies_compress_to_equal_bytes(acme_key: Caller, large: str) -> None:
    first, second = (acme_key.get(large, headers={"Accept-Encoding": "gzip"}).data for _ in range(2))
    assert first == second


def test_response_to_post_is_never_compressed(acme_key: Caller) -> None:
    wide = ["a" * 50 + f"{n}.example" for n in range(50)]
    made = acme_key.post(
        "/v1/widget-keys", {"name": "x", "domain_allowlist": wide}, headers={"Accept-Encoding": "gzip"}
    )
    assert len(made.data) > MIN_BYTES
    assert "Content-Encoding" not in made.headers


def test_no_get_response_contains_a_secret(harness: AppHarness) -> None:
    document = harness.caller().get("/v1/openapi.json").get_json()
    for path, methods in document["paths"].items():
        if "get" in methods:
            named = json.dumps(methods["get"]["responses"]["200"])
            for name, schema in document["components"]["schemas"].items():
                if f'schemas/{name}"' in named:
                    assert not SECRET_FIELDS & set(schema.get("properties", {})), path


def test_html_pages_are_compressed(harness: AppHarness) -> None:
    assert harness.caller(Accept_Encoding="gzip").get("/docs").headers["Content-Encoding"] == "gzip"
    script = harness.caller(Accept_Encoding="gzip").get("/widget.js")
    assert script.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(script.data) == harness.caller().get("/widget.js").data
