"""A redis-py client whose commands pass a gate."""

from __future__ import annotations

from typing import Any

from redis import Redis

from kataven.redis_clients.silence_gate import SilenceGate


class GatedClient(Redis):
    """Without `gate`, commands are sent as by redis-py's client."""

    gate: SilenceGate | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.gate is None:
            return self.send_command(*args, **options)
        with self.gate.passed():
            return self.send_command(*args, **options)

    def send_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return its reply."""
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
