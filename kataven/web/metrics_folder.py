"""Where the workers of one gunicorn master keep their metrics: files that each maps into its memory.

A worker that is gone leaves its counters behind, which must go on counting. They are added to one file for all of the
gone, so that a master which renews its workers for months does not read thousands of files at each scrape.
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
"""Read by prometheus-client when it is imported: to be set before."""

_GONE = 0  # no worker has this process id
_unburied: set[int] = set()


def make(environ: MutableMapping[str, str]) -> None:
    """Name a folder of this process in `environ`, once, also if this is asked again after a reload."""
    prefix = f"kataven-metrics-{os.getpid()}-"
    if prefix not in environ.get(FOLDER_VARIABLE, ""):
        environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix=prefix)


def remove(environ: MutableMapping[str, str]) -> None:
    """Remove it, when its master ends."""
    shutil.rmtree(environ.get(FOLDER_VARIABLE, ""), ignore_errors=True)


def bury(folder: str, pid: int) -> None:
    """Worker `pid` is gone: forget what it was, keep what it counted.

    The master calls it, and must never wait for a reader: one that is frozen would keep it from replacing that very
    worker. Then what was counted stays where it is, which counts as well, until the next one is buried.
    """
    from prometheus_client.mmap_dict import MmapedDict

    for file in Path(folder).glob(f"gauge_*_{pid}.db"):
        file.unlink()
    _unburied.add(pid)
    with contextlib.suppress(BlockingIOError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        while _unburied:
            gone = _unburied.pop()
            for kind in ("counter", "histogram"):
                file = Path(folder) / f"{kind}_{gone}.db"
                if not file.exists():
                    continue
                total = MmapedDict(str(file.with_name(f"{kind}_{_GONE}.db")))
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
                total.close()
                file.unlink()


def while_still(folder: str) -> contextlib.AbstractContextManager[None]:
    """While the block runs, nobody is buried: each is counted once."""
    return _locked(folder, fcntl.LOCK_SH)


@contextlib.contextmanager
def _locked(folder: str, how: int) -> Iterator[None]:
    descriptor = os.open(Path(folder) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
