"""What `import kataven.client` loads. Programs import it at startup, often without sending a request."""

from __future__ import annotations

import subprocess
import sys

from tests.support.gunicorn import CHECKOUT

OWN = ("kataven", "kataven.client")
SLOW = {"httpx2", "httpcore2", "anyio", "asyncio", "ssl", "socket", "email", "http", "logging", "importlib.metadata"}


def loaded_by(code: str) -> set[str]:
    """The modules that `code` imports in a new interpreter, without those of an empty one."""
    program = f"import sys; empty = set(sys.modules); {code}; print(*sorted(set(sys.modules) - empty), sep='\\n')"
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(finished.stdout.split())


def test_import_loads_no_http_client_and_no_third_party_package() -> None:
    loaded = loaded_by("from kataven.client import AsyncKatavenClient, KatavenClient")
    assert not loaded & SLOW
    packages = {name.partition(".")[0] for name in loaded}
    assert packages - sys.stdlib_module_names == {"kataven"}
    assert {".".join(name.split(".")[:2]) for name in loaded if name.startswith("kataven")} == set(OWN)
    assert len(loaded) < 120, sorted(loaded)
