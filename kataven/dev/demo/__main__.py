"""`python -m kataven.dev.demo --port 8002`: runs until SIGTERM or Ctrl-C. The keys come in the environment."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

from kataven.dev.demo.app import Customer, create_demo

API_URL, WIDGET_KEY, API_KEY = "KATAVEN_DEMO_API_URL", "KATAVEN_DEMO_WIDGET_KEY", "KATAVEN_DEMO_API_KEY"


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: a demonstration has no log."""


def main() -> int:
    """0 after an orderly end, 1 if it can't start."""
    parser = argparse.ArgumentParser(prog="python -m kataven.dev.demo", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mark", help="how a later run recognises this one")
    port: int = parser.parse_args().port
    missing = [name for name in (API_URL, WIDGET_KEY, API_KEY) if not os.environ.get(name)]
    if missing:
        sys.stderr.write(f"demonstration: {', '.join(missing)} must be set; `make run` does that\n")
        return 1
    customer = Customer(os.environ[API_URL], os.environ[WIDGET_KEY], os.environ[API_KEY])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        sys.stderr.write(f"demonstration: can't listen on port {port}: {os.strerror(error.errno or 0)}\n")
        return 1
    with listener:
        server = make_server(
            "127.0.0.1",
            port,
            create_demo(customer),
            threaded=True,
            request_handler=_QuietHandler,
            fd=listener.fileno(),
        )
        thread = threading.Thread(target=server.serve_forever, name="demo", daemon=True)
        thread.start()
        stop.wait()
        server.shutdown()
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
