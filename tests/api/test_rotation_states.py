"""Rotations, uses, ends and crashes in any order: exactly the secrets of the model are accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kataven.account import rotation
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.revocation.target import RevocationTarget
from kataven.web import idempotency as web_idempotency
from tests.support.app_harness import AppHarness, Caller
from tests.support.servers import ask

pytestmark = pytest.mark.searches


class Crash(BaseException):
    """The process ends here. Not an Exception, like a signal."""


@dataclass
class Former:
    """A secret that was replaced. `left` are the seconds until its end; None before the first use of the new one."""

    secret: str
    grace: int
    left: int | None = None

    @property
    def accepted(self) -> bool:
        return self.left is None or self.left > 0


@dataclass
class Model:
    current: str
    former: list[Former] = field(default_factory=list)

    @property
    def accepted(self) -> list[Former]:
        return [one for one in self.former if one.accepted]


class Rotations(RuleBasedStateMachine):
    harness: AppHarness
    owner: Caller
    postgres: EmbeddedPostgres
    patch: pytest.MonkeyPatch

    @initialize()
    def start(self) -> None:
        created = self.owner.post("/v1/api-keys", {"name": "Machine", "expiry": "90d"}).get_json()
        self.key_id, self.model = created["id"], Model(created["key"])

    def _rotate(self, key: str, grace: int) -> Any:
        body = {"grace_seconds": grace}
        return self.owner.post(f"/v1/api-keys/{self.key_id}/rotate", body, headers={"Idempotency-Key": key})

    def _expect_rotated(self, secret: str, grace: int) -> None:
        pending = next((one for one in self.model.former if one.left is None), None)
        if pending is not None:
            pending.grace = grace
            self.model.former.append(Former(self.model.current, 0, left=0))
        else:
            self.model.former.append(Former(self.model.current, grace))
        self.model.current = secret

    @property
    def _may_rotate(self) -> bool:
        return all(one.left is None for one in self.model.accepted)

    @rule(grace=st.sampled_from([0, 3600, 86_400]), repeats=st.integers(1, 3))
    def rotate(self, grace: int, repeats: int) -> None:
        """The response may be lost: the same request returns the same secret."""
        key = str(uuid4())
        responses = [self._rotate(key, grace) for _ in range(repeats)]
        if not self._may_rotate:
            assert {response.status_code for response in responses} == {409}
            return
        secrets = {response.get_json()["key"] for response in responses}
        assert len(secrets) == 1
        self._expect_rotated(secrets.pop(), grace)

    @rule(grace=st.sampled_from([0, 3600]), step=st.sampled_from(["issued", "rotated", "kept", "committed"]))
    @precondition(lambda self: self._may_rotate)
    def crash_during_a_rotation(self, grace: int, step: str) -> None:
        """After a crash before the commit, nothing has changed. The repeated request completes the rotation."""
        key = str(uuid4())

        def crash(*_: Any, **__: Any) -> Any:
            raise Crash

        def after(function: Any) -> Any:
            def then_crash(*arguments: Any, **options: Any) -> Any:
                function(*arguments, **options)
                raise Crash

            return then_crash

        with self.patch.context() as patch:
            if step == "issued":
                patch.setattr(rotation, "rotate", crash)
            elif step == "rotated":
                patch.setattr(rotation, "rotate", after(rotation.rotate))
            elif step == "kept":
                keep = web_idempotency.idempotency.keep
                patch.setattr(web_idempotency.idempotency, "keep", after(keep))
            else:
                patch.setattr("kataven.api.api_keys.write_json", crash)
            with pytest.raises(Crash):
                self._rotate(key, grace)
        first = self._rotate(key, grace)
        assert first.status_code == 200, first.text
        assert ("Idempotent-Replayed" in first.headers) == (step == "committed")
        self._expect_rotated(first.get_json()["key"], grace)

    @rule()
    def use_the_new_secret(self) -> None:
        assert self._outcome(self.model.current) is None
        self.harness.services.last_used.flush()
        self._complete()

    @rule()
    def use_the_new_secret_and_lose_the_write(self) -> None:
        """The grace period then starts with a later use."""

        def lost(*_: Any) -> None:
            raise ConnectionError

        with self.patch.context() as patch:
            patch.setattr(rotation, "start_grace", lost)
            assert self._outcome(self.model.current) is None
            self.harness.services.last_used.flush()

    def _complete(self) -> None:
        for one in self.model.former:
            if one.left is None:
                one.left = one.grace
        # The event for the other workers is sent without waiting for them.
        self.harness.services.revocation.revoke(RevocationTarget("acme", self.key_id))

    @rule(seconds=st.sampled_from([1800, 3600, 86_400]))
    def time_passes(self, seconds: int) -> None:
        passed = f"UPDATE former_secrets SET ends_at = ends_at - interval '{seconds} seconds'"
        ask(self.postgres, f"{passed} WHERE key_id = '{self.key_id}'", "acme")
        self.harness.services.revocation.revoke(RevocationTarget("acme", self.key_id))
        for one in self.model.former:
            if one.left is not None:
                one.left -= seconds

    @rule(seconds=st.sampled_from([0, 1800]))
    def shorten(self, seconds: int) -> None:
        response = self.owner.patch(f"/v1/api-keys/{self.key_id}/former-secret", {"ends_in_seconds": seconds})
        if not self.model.accepted and seconds:
            assert response.status_code == 409
            return
        assert response.get_json()["receipt"]["acknowledged"] >= 1
        for one in self.model.accepted:
            one.left = seconds if one.left is None else min(one.left, seconds)

    @rule()
    def only_the_secrets_of_the_model_are_accepted(self) -> None:
        for one in self.model.former:
            assert self._outcome(one.secret) == (None if one.accepted else "rotated_credential"), one
        assert len(self.model.accepted) <= 1

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        """The end of each secret, to within a quarter of an hour: the smallest time of the machine is half an hour."""
        if not hasattr(self, "model"):
            return
        left = "(extract(epoch FROM ends_at - clock_timestamp()) / 1800)::float"
        of_key = f"FROM former_secrets WHERE key_id = '{self.key_id}' ORDER BY rotated_at"
        statement = f"SELECT grace_seconds, {left} {of_key}"
        rows = ask(self.postgres, statement, "acme")
        assert len(rows) == len(self.model.former)
        for (grace, remaining), one in zip(rows, self.model.former, strict=True):
            assert grace == one.grace
            assert (remaining is None) == (one.left is None)
            assert remaining is None or abs(float(str(remaining)) - (one.left or 0) / 1800) < 0.5

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.only_the_secrets_of_the_model_are_accepted()

    def _outcome(self, secret: str) -> str | None:
        response = self.harness.bearer(secret).get("/v1/me")
        code: str | None = response.get_json().get("code")
        return code


def test_every_order_of_rotations_uses_ends_and_crashes(
    harness: AppHarness, alice: Caller, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The background thread would write a use at any time; the machine decides when.
    monkeypatch.setattr(harness.services.last_used._thread, "wake", lambda: None)

    class Machine(Rotations):
        pass

    Machine.harness, Machine.owner, Machine.postgres, Machine.patch = harness, alice, postgres, monkeypatch
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
