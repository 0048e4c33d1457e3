"""Conditional requests with `ETag`, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1).

An ETag is a digest of the resource's representation, so that it needs no storage and changes with every change.
`If-Match` is compared in the transaction that updates the row, after the row is locked, so that no update is lost.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from flask import Response, request

from kataven.web.problems import FieldError, InvalidRequest, PreconditionFailed
from kataven.web.schema import dump_json, write_json

GZIP_SUFFIX = "-gzip"
"""Suffix of a compressed body's ETag: each content coding is a separate representation with its own strong ETag."""

MAX_TAGS_LENGTH = 4_096
"""Maximum length of a list of ETags, enough for a hundred. Parsing a longer one costs more than it can save."""

TAG_PATTERN = r'(?:W/)?"[\x21\x23-\x7e]*"'
IF_MATCH_PATTERN = rf"^(?:\*|{TAG_PATTERN}(?:[ \t]*,[ \t]*{TAG_PATTERN})*)$"
_IF_MATCH = re.compile(IF_MATCH_PATTERN)


def tag_of(representation: Any) -> str:
    """The ETag of a representation, without quotes."""
    return base64.urlsafe_b64encode(hashlib.sha256(dump_json(representation)).digest()[:18]).decode()


def write_tagged(
    representation: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    beside: Mapping[str, Any] | None = None,
) -> Response:
    """A response with `representation` and its ETag. `beside` is added to the body but not to the ETag, because a GET
    doesn't return it."""
    if request.method in {"GET", "HEAD"}:
        require_match(representation)
    response = write_json({**representation, **(beside or {})}, status, headers)
    response.set_etag(tag_of(representation))
    return response


def check_if_match() -> None:
    """Raises InvalidRequest if `If-Match` is malformed, so that a client that omits the quotes is not left
    unprotected."""
    given = request.headers.get("If-Match")
    if given is not None and len(given) > MAX_TAGS_LENGTH:
        raise InvalidRequest([FieldError("If-Match", f"must be at most {MAX_TAGS_LENGTH} characters; send one ETag")])
    if given is not None and not _IF_MATCH.fullmatch(given.strip()):
        raise InvalidRequest(
            [FieldError("If-Match", 'must be an ETag as the API returned it, with its quotes, or "*"')]
        )


def require_match(representation: Any | None) -> None:
    """Raises PreconditionFailed unless `If-Match` is absent, `*`, or contains the ETag of `representation`. A
    representation of None has no ETag.

    The comparison is strong, so a weak ETag never matches. The ETags of both content codings match.
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return
    if representation is None:
        raise PreconditionFailed(
            "This resource has no ETag, so `If-Match` can't match. Your request was not applied. Omit `If-Match`."
        )
    tag = tag_of(representation)
    if not any(request.if_match.is_strong(one) for one in (tag, tag + GZIP_SUFFIX)):
        raise PreconditionFailed(
            "The resource changed after you fetched it, so your update was not applied. Fetch it again and retry."
        )


def not_modified(response: Response) -> Response:
    """Convert the response to a 304 without a body if `If-None-Match` contains its ETag."""
    tag, weak = response.get_etag()
    if len(request.headers.get("If-None-Match", "")) > MAX_TAGS_LENGTH:
        return response
    if request.method in {"GET", "HEAD"} and response.status_code == 200 and tag is not None:
        if weak or not request.if_none_match.contains_weak(tag):
            return response
        response.status_code = 304
        response.set_data(b"")
        for name in ("Content-Type", "Content-Length", "Content-Encoding"):
            response.headers.remove(name)
    return response
