"""`python -m kataven.dev.demo --port 8002`: serves the demonstration page until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys

from flask import Flask

from kataven.dev.demo.app import Customer, create_demo
from kataven.dev.loopback import HOSTS, LoopbackServer, serve_until_signal

API_URL, WIDGET_KEY, API_KEY = "KATAVEN_DEMO_API_URL", "KATAVEN_DEMO_WIDGET_KEY", "KATAVEN_DEMO_API_KEY"


class DemoServer(LoopbackServer):
    """The demonstration page on a loopback port."""

    def __init__(self, port: int, customer: Customer) -> None:
        super().__init__(HOSTS[0], port)
        self._customer = customer

    def create_application(self) -> Flask:
        return create_demo(self._customer)


def main() -> int:
    """The exit status: 0 after a signal, 1 if the server cannot start."""
    parser = argparse.ArgumentParser(prog="python -m kataven.dev.demo", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mark", help="a word by which a later run recognizes this process")
    port: int = parser.parse_args().port
    missing = [name for name in (API_URL, WIDGET_KEY, API_KEY) if not os.environ.get(name)]
    if missing:
        sys.stderr.write(f"demonstration: set {', '.join(missing)}, as `make run` does\n")
        return 1
    customer = Customer(os.environ[API_URL], os.environ[WIDGET_KEY], os.environ[API_KEY])
    return serve_until_signal(DemoServer(port, customer), "demonstration")


if __name__ == "__main__":
    sys.exit(main())
