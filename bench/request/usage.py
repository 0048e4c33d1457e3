"""The cost of recording usage: requests with and without it, alternating in one thread, by CPU time.

    python -m bench.request.usage [--requests 6000]

Other processes on the machine hardly disturb the CPU time of a thread, and each request is compared with its neighbour.
What the background thread does is measured separately and added: aggregating each request, and writing a batch every 5
seconds at the highest rate of one core. Exit status 1 if a request with usage costs over 2 % more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from kataven.web import metrics_folder

MOST = 0.02
WARM_UP = 300
BATCHES = 30
WRITE_SECONDS = 5.0


def main() -> int:
    if metrics_folder.FOLDER_VARIABLE not in os.environ:
        return _with_metrics_of_workers()
    from bench.harness import shared_harness

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=6000)
    requests = parser.parse_args().requests
    with (
        tempfile.TemporaryDirectory(prefix="kataven-bench-") as folder,
        shared_harness(Path(folder)) as harness,
        Path(os.devnull).open("w") as null,
        contextlib.redirect_stderr(null),  # the access log
    ):
        return _measure(harness, requests)


def _with_metrics_of_workers() -> int:
    """Counters are memory-mapped files, as in a worker of gunicorn. The library decides that when it is imported."""
    environ = dict(os.environ)
    metrics_folder.make(environ)
    try:
        return subprocess.call([sys.executable, "-m", "bench.request.usage", *sys.argv[1:]], env=environ)
    finally:
        metrics_folder.remove(environ)


def _measure(harness: Any, requests: int) -> int:
    from bench.request.handlers import PATH
    from kataven.usage.recorder import UsageRecorder

    services, app = harness.services, harness.app
    services.revocation.start()  # the other background threads do nothing that belongs to a request
    services.limiter.start()
    usage: UsageRecorder = services.usage
    key = harness.new_key("acme")
    caller = harness.bearer(key)
    for number in range(10):
        caller.post("/v1/agents", {"name": f"Agent {number}", "system_prompt": "x" * 40})
    headers = {**caller.headers, "User-Agent": "python-httpx/0.28.1"}
    environs = [app.test_request_context(PATH, headers=headers).request.environ for _ in range(2)]

    def send(number: int, recorder: UsageRecorder | None) -> float:
        object.__setattr__(services, "usage", recorder)
        environ = dict(environs[number % 2])
        before = time.thread_time()
        body = app.wsgi_app(environ, lambda *_: None)
        for _ in body:
            pass
        body.close()
        return time.thread_time() - before

    for number in range(WARM_UP):
        send(number, usage)
    with_usage, without = [], []
    for number in range(requests):
        order = ((usage, with_usage), (None, without))
        for recorder, times in order if number % 2 else order[::-1]:
            times.append(send(number, recorder))
        if len(usage._queue) > usage._max_queue // 2:
            usage.run()
    usage.flush()
    base = median(without)
    path = median(a - b for a, b in zip(with_usage, without, strict=True))
    per_second = 1 / base
    aggregate, write = _background(usage, send, int(per_second * WRITE_SECONDS))
    cost = path + aggregate + write
    services.limiter.stop()
    services.revocation.stop()
    print(f"  a request without usage          {base * 1e6:7.1f} µs of CPU time")
    print(f"  usage on the request's path      {path * 1e6:7.1f} µs   {path / base:.2%}")
    print(f"  aggregating it                   {aggregate * 1e6:7.1f} µs   {aggregate / base:.2%}")
    print(f"  writing, shared by its batch     {write * 1e6:7.1f} µs   {write / base:.2%}")
    passed = cost / base <= MOST
    print(f"  a request with usage costs {cost / base:+.2%}   at most {MOST:.0%}{'' if passed else '   ABOVE'}")
    return 0 if passed else 1


def _background(usage: Any, send: Any, batch: int) -> tuple[float, float]:
    """The CPU time of aggregating a request, and of writing a batch of that many requests, for each request."""
    aggregate, write = [], []
    for number in range(BATCHES):
        send(number, usage)
        observed = usage._queue.pop()
        size = min(batch, usage._max_queue)
        usage._queue.extend([observed] * size)
        before = time.thread_time()
        usage._aggregate()
        between = time.thread_time()
        usage.flush()
        aggregate.append((between - before) / size)
        write.append((time.thread_time() - between) / size)
    return median(aggregate), median(write)


if __name__ == "__main__":
    sys.exit(main())
