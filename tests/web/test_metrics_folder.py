"""The metrics files of exited workers, also while a paused reader holds the lock."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from kataven.web import metrics_folder

KEY = mmap_key("kataven_x", "kataven_x_total", [], [], "x")


def left_behind(folder: Path, pid: int, counted: float) -> None:
    for kind in ("counter", "gauge_livesum"):
        file = MmapedDict(str(folder / f"{kind}_{pid}.db"))
        file.write_value(KEY, counted, 0.0)
        file.close()


def of_exited_workers(folder: Path) -> float:
    return sum(value for _, value, _, _ in MmapedDict.read_all_values_from_file(str(folder / "counter_0.db")))


def test_counters_of_exited_workers_are_summed(tmp_path: Path) -> None:
    for pid, counted in ((11, 3.0), (12, 4.0)):
        left_behind(tmp_path, pid, counted)
        metrics_folder.merge_exited(str(tmp_path), pid)
    assert of_exited_workers(tmp_path) == 7
    assert {file.name for file in tmp_path.iterdir()} == {"counter_0.db", "lock"}


def test_paused_reader_does_not_block_the_master(tmp_path: Path) -> None:
    left_behind(tmp_path, 21, 3.0)
    left_behind(tmp_path, 22, 4.0)
    with metrics_folder.read_lock(str(tmp_path)):
        metrics_folder.merge_exited(str(tmp_path), 21)
        assert (tmp_path / "counter_21.db").exists(), "still counted by itself"
        assert not (tmp_path / "gauge_livesum_21.db").exists()
    metrics_folder.merge_exited(str(tmp_path), 22)
    assert of_exited_workers(tmp_path) == 7
    assert not (tmp_path / "counter_21.db").exists()


def test_worker_killed_while_it_created_its_file_does_not_stop_the_master(tmp_path: Path) -> None:
    for kind in ("counter", "histogram"):
        (tmp_path / f"{kind}_23.db").touch()
    metrics_folder.merge_exited(str(tmp_path), 23)
    assert not list(tmp_path.glob("*_23.db"))
