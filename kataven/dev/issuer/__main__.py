"""`python -m kataven.dev.issuer --port 8010 --data-dir .kataven`: runs until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from kataven.dev.errors import DevError
from kataven.dev.issuer.server import HOSTS, DevIssuer


def main() -> int:
    """0 after an orderly end, 1 if it can't start."""
    parser = argparse.ArgumentParser(prog="python -m kataven.dev.issuer", description=__doc__)
    parser.add_argument("--host", default=HOSTS[0], choices=HOSTS, help="loopback only")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the signing keys are kept")
    arguments = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    issuer = DevIssuer(arguments.data_dir, host=arguments.host, port=arguments.port)
    try:
        issuer.start()
    except OSError as error:
        sys.stderr.write(f"development issuer: can't listen on {issuer.url}: {os.strerror(error.errno or 0)}\n")
        return 1
    except DevError as error:
        sys.stderr.write(f"development issuer: {error}\n")
        return 1
    stop.wait()
    issuer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
