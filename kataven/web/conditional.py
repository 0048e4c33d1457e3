"""`ETag`, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1): no lost updates, and no answer twice.

A tag is a digest of what a resource shows, so nothing is stored for it, and whatever changes the resource changes it.
`If-Match` is compared inside the transaction that changes the row, once the row is locked.
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
"""On the tag of a compressed body: another coding is another representation, with a strong tag of its own."""

MAX_TAGS_LENGTH = 4_096
"""Of a list of tags: a hundred of ours. A longer one would cost more to read than it could save."""

TAG_PATTERN = r'(?:W/)?"[\x21\x23-\x7e]*"'
IF_MATCH_PATTERN = rf"^(?:\*|{TAG_PATTERN}(?:[ \t]*,[ \t]*{TAG_PATTERN})*)$"
_IF_MATCH = re.compile(IF_MATCH_PATTERN)


def tag_of(shown: Any) -> str:
    """The tag of what a resource shows, without its quotes."""
    return base64.urlsafe_b64encode(hashlib.sha256(dump_json(shown)).digest()[:18]).decode()


def write_tagged(
    shown: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, beside: Mapping[str, Any] | None = None
) -> Response:
    """`shown` with its tag; `beside` goes into the answer and not into the tag, for a GET would not show it."""
    if request.method in {"GET", "HEAD"}:
        require_match(shown)
    response = write_json({**shown, **(beside or {})}, status, headers)
    response.set_etag(tag_of(shown))
    return response


def check_if_match() -> None:
    """Raises InvalidRequest for an `If-Match` that is none: whoever forgot the quotes must not believe to be safe."""
    given = request.headers.get("If-Match")
    if given is not None and len(given) > MAX_TAGS_LENGTH:
        raise InvalidRequest([FieldError("If-Match", f"is longer than {MAX_TAGS_LENGTH} characters; send one ETag")])
    if given is not None and not _IF_MATCH.fullmatch(given.strip()):
        raise InvalidRequest([FieldError("If-Match", 'must be an ETag as it was given out, with its quotes, or "*"')])


def require_match(shown: Any | None) -> None:
    """Raises PreconditionFailed unless `If-Match` is absent, `*`, or holds the tag of `shown`; None has no tag at all.

    The comparison is strong, so a weak tag never matches. Either coding of the body counts.
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return
    if shown is None:
        raise PreconditionFailed("There is no ETag here, so nothing can match. Nothing was done; leave out `If-Match`.")
    tag = tag_of(shown)
    if not any(request.if_match.is_strong(one) for one in (tag, tag + GZIP_SUFFIX)):
        raise PreconditionFailed(
            "It was changed since the ETag in `If-Match` was given out. Nothing was done: read it again, and try anew."
        )


def not_modified(response: Response) -> Response:
    """304 without a body, for a client that has this very representation."""
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
