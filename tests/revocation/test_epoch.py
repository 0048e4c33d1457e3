"""The message of an event: what a worker of another release reads from it."""

from __future__ import annotations

import json

import pytest

from kataven.revocation.epoch import Event, encode_body
from kataven.revocation.target import RevocationTarget


def parsed(body: str) -> Event:
    return Event.parse(f"redis 7 {body}")


@pytest.mark.parametrize(
    "target",
    [
        RevocationTarget(None),
        RevocationTarget("acme"),
        RevocationTarget("acme", "key"),
        RevocationTarget("acme", subject="alice"),
        RevocationTarget(None, subject="alice"),
    ],
    ids=str,
)
def test_the_target_is_read_as_it_was_written(target: RevocationTarget) -> None:
    event = parsed(encode_body(target, "an id"))
    assert (event.target, event.ack_id, event.before.count, event.after.count) == (target, "an id", 6, 7)


@pytest.mark.parametrize("account", ["acme", None])
def test_a_worker_that_does_not_know_a_field_evicts_more(account: str | None) -> None:
    """The first entries cover the target, and fields only narrow it."""
    target = RevocationTarget(account, subject="alice")
    known_by_all = json.loads(encode_body(target, "an id"))[:2]
    assert RevocationTarget(*known_by_all).covers(target)
    unknown = parsed(json.dumps([account, None, "an id", {"a field of a later release": "value"}])).target
    assert unknown == RevocationTarget(account)
    assert unknown.covers(target)


def test_keys_and_accounts_have_the_message_of_earlier_releases() -> None:
    assert json.loads(encode_body(RevocationTarget("acme", "key"), "an id")) == ["acme", "key", "an id"]


def test_the_first_releases_reject_a_users_event_and_so_clear_their_caches_on_a_new_connection() -> None:
    body = json.loads(encode_body(RevocationTarget("acme", subject="alice"), "an id"))
    with pytest.raises(ValueError, match="too many values"):
        _account, _key_id, _ack_id = body
