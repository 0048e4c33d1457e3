"""`python -m kataven.dev.issuer --port 8010 --data-dir .kataven`: serves until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kataven.dev.issuer.server import DevIssuer
from kataven.dev.loopback import HOSTS, serve_until_signal


def main() -> int:
    """The exit status: 0 after a signal, 1 if the issuer cannot start."""
    parser = argparse.ArgumentParser(prog="python -m kataven.dev.issuer", description=__doc__)
    parser.add_argument("--host", default=HOSTS[0], choices=HOSTS, help="a loopback name")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that contains the signing keys")
    arguments = parser.parse_args()
    issuer = DevIssuer(arguments.data_dir, host=arguments.host, port=arguments.port)
    return serve_until_signal(issuer, "development issuer")


if __name__ == "__main__":
    sys.exit(main())
