"""The directory of the metrics of one gunicorn master: memory-mapped files, one set per worker.

Counters of exited workers must keep their values. They are merged into one file for all exited workers, so that a
master that replaces its workers for months doesn't read thousands of files per scrape.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client reads it at import, so it must be set before."""

_EXITED = 0  # the process id in the name of the merged file: no worker has it
_unmerged: set[int] = set()


def make(environ: MutableMapping[str, str]) -> None:
    """Create the directory of this process and set it in `environ`. Does nothing after a reload."""
    prefix = f"kataven-metrics-{os.getpid()}-"
    if prefix not in environ.get(FOLDER_VARIABLE, ""):
        environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix=prefix)


def remove(environ: MutableMapping[str, str]) -> None:
    """Remove the directory. Call it when the master exits."""
    shutil.rmtree(environ.get(FOLDER_VARIABLE, ""), ignore_errors=True)


def merge_exited(folder: str, pid: int) -> None:
    """Drop the gauges of the exited worker `pid` and merge its counters into the file of all exited workers.

    The master calls it, and must never wait for a reader: a paused worker that holds the lock would keep the master
    from replacing that worker. If the lock is held, the worker's own files remain and are counted until the next merge.
    """
    from prometheus_client.mmap_dict import MmapedDict

    for file in Path(folder).glob(f"gauge_*_{pid}.db"):
        file.unlink()
    _unmerged.add(pid)
    with contextlib.suppress(BlockingIOError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        while _unmerged:
            exited = _unmerged.pop()
            for kind in ("counter", "histogram"):
                file = Path(folder) / f"{kind}_{exited}.db"
                if not file.exists():
                    continue
                if file.stat().st_size == 0:  # the worker was killed right after it had created the file
                    file.unlink()
                    continue
                total = MmapedDict(str(file.with_name(f"{kind}_{_EXITED}.db")))
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
                total.close()
                file.unlink()


def read_lock(folder: str) -> contextlib.AbstractContextManager[None]:
    """While the block runs, no worker's counters are merged, so that each is counted once."""
    return _locked(folder, fcntl.LOCK_SH)


@contextlib.contextmanager
def _locked(folder: str, how: int) -> Iterator[None]:
    descriptor = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
