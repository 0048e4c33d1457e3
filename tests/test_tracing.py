"""W3C Trace Context: continued, new and malformed traces."""

from __future__ import annotations

import pytest

from kataven.tracing import Trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_is_continued_with_a_new_span() -> None:
    trace = Trace.from_header(PARENT)
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace.header.startswith(f"00-{trace.trace_id}-")
    assert trace.header.endswith("-01"), "the sampled flag is kept"
    assert trace.span_id not in PARENT
    assert Trace.from_header(trace.header).trace_id == trace.trace_id


def test_the_known_fields_of_a_later_version_are_used() -> None:
    trace = Trace.from_header(f"cc{PARENT[2:]}-fields-of-a-later-version")
    assert trace.header.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"{PARENT}-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        f" {PARENT}",
        f"{PARENT}\n",
    ],
    ids=str,
)
def test_a_missing_or_malformed_header_starts_a_new_trace(header: str | None) -> None:
    first, second = Trace.from_header(header), Trace.from_header(header)
    assert first.trace_id != second.trace_id
    assert first.flags == "00"
    assert "4bf92f35" not in first.header
