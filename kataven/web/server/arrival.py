"""Detects when a request has arrived completely. It finds the end of the request and does not validate it.

gunicorn's parser reads from a socket and blocks if bytes are missing, which would occupy a thread for as long as the
client chooses. A request is therefore passed to a thread only when every byte that the parser will read has arrived. A
malformed request counts as complete: the parser rejects it without blocking.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from kataven.web.server.timeouts import BODY_BYTES, HEAD_BYTES

REQUEST_LINE_BYTES = 8190
"""gunicorn's own limit for a request line; see `limit_request_line` in kataven/serve/gunicorn_conf.py."""
_CHUNK_LINE_BYTES = 1024
_MOST_DIGITS = 12
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")


class Progress(Enum):
    """How much of a request has arrived."""

    MORE = auto()
    """Bytes are missing."""
    WHOLE = auto()
    """The parser will not block."""
    LARGE = auto()
    """The head has arrived, and the body is too large to buffer."""
    HEAD_TOO_LARGE = auto()


class Arrival:
    """The received bytes of a request, possibly followed by bytes of the next one."""

    __slots__ = ("_at", "_chunked", "_need", "_seen", "buffer", "continues", "head_end")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.head_end = 0
        """Offset of the body; 0 while the head is incomplete."""
        self.continues = False
        """Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1)."""
        self._seen = 0
        self._need = 0
        self._chunked = False
        self._at = 0

    def add(self, data: bytes) -> Progress:
        """Append received bytes. Each byte is scanned once, however small the pieces are."""
        self.buffer += data
        if not self.head_end:
            progress = self._look_for_head()
            if progress is not None:
                return progress
        return self._look_for_body()

    @property
    def body_received(self) -> int:
        """Number of bytes received after the head."""
        return len(self.buffer) - self.head_end

    def _look_for_head(self) -> Progress | None:
        """None if the head is complete and a body follows."""
        buffer, seen = self.buffer, self._seen
        end = buffer.find(b"\r\n\r\n", max(seen - 3, 0))
        if end < 0:
            self._seen = len(buffer)
            if len(buffer) > HEAD_BYTES:
                return Progress.HEAD_TOO_LARGE
            # The parser rejects a bare line feed and an unterminated request line without blocking.
            if buffer.count(b"\n", seen) != buffer.count(b"\r\n", max(seen - 1, 0)):
                return Progress.WHOLE
            if seen < REQUEST_LINE_BYTES + 4 < len(buffer) and b"\n" not in buffer[2:]:
                return Progress.WHOLE
            return Progress.MORE
        self.head_end = end + 4
        if self.head_end > HEAD_BYTES:
            return Progress.HEAD_TOO_LARGE
        head = bytes(buffer[: self.head_end]).lower()
        if head.count(b"\n") != head.count(b"\r\n"):  # the same decision as for a head that arrives in pieces
            return Progress.WHOLE
        if b"\r\ncontent-length" not in head and b"\r\ntransfer-encoding" not in head:
            return Progress.WHOLE
        return self._read_framing(head)

    def _read_framing(self, head: bytes) -> Progress | None:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in _FRAMING.findall(head):
            fields.setdefault(name, []).append(value.strip())
        lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
        if len(lengths) + len(codings) != 1:
            return Progress.WHOLE
        self.continues = fields.get(b"expect") == [b"100-continue"] and b" http/1.1\r\n" in head
        if codings:
            if codings[0].rpartition(b",")[2].strip() != b"chunked":
                return Progress.WHOLE
            self._chunked, self._at = True, self.head_end
            return None
        if not lengths[0].isdigit():
            return Progress.WHOLE
        if len(lengths[0]) > _MOST_DIGITS or int(lengths[0]) > BODY_BYTES:
            return Progress.LARGE
        self._need = self.head_end + int(lengths[0])
        return None

    def _look_for_body(self) -> Progress:
        if self._chunked:
            return self._look_for_last_chunk()
        return Progress.WHOLE if len(self.buffer) >= self._need else Progress.MORE

    def _look_for_last_chunk(self) -> Progress:
        buffer = self.buffer
        while True:
            if len(buffer) < self._need:
                return self._unfinished()
            end = buffer.find(b"\r\n", self._at)
            if end < 0:
                return Progress.LARGE if len(buffer) - self._at > _CHUNK_LINE_BYTES else self._unfinished()
            size = bytes(buffer[self._at : end]).partition(b";")[0].rstrip(b" \t")
            if not _CHUNK_SIZE.fullmatch(size):
                return Progress.WHOLE
            if len(size) > _MOST_DIGITS:  # the parser would accept this size and block
                return Progress.LARGE
            if int(size, 16) == 0:
                return self._look_for_end_of_trailers(end)
            behind = end + 2 + int(size, 16)
            if bytes(buffer[behind : behind + 2]) not in (b"", b"\r", b"\r\n"):
                return Progress.WHOLE
            self._at = behind + 2
            self._need = self._at
            if self._need - self.head_end > BODY_BYTES:
                return Progress.LARGE

    def _look_for_end_of_trailers(self, end: int) -> Progress:
        buffer, first = self.buffer, end + 2
        new = max(first, self._seen)
        self._seen = len(buffer)
        if buffer.startswith(b"\r\n", first) or buffer.find(b"\r\n\r\n", max(end, new - 3)) >= 0:
            return Progress.WHOLE
        if buffer.count(b"\n", new) != buffer.count(b"\r\n", max(new - 1, first)):
            return Progress.WHOLE
        return self._unfinished()

    def _unfinished(self) -> Progress:
        return Progress.LARGE if self.body_received > BODY_BYTES else Progress.MORE
