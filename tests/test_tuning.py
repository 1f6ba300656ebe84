from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow import fs

from lstmfcn import tuning
from lstmfcn.errors import OutputError
from lstmfcn.ledger import Ledger
from lstmfcn.object_storage import ObjectPath
from lstmfcn.plan import Plan
from lstmfcn.search import RandomSearch
from lstmfcn.search_space import SearchSpace
from lstmfcn.trials import Trial, TrialFolders


def test_a_sweep_that_ends_between_two_trials_was_interrupted(tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    ledger = Ledger(folders, RandomSearch(SearchSpace({}), seed=0), plan.objective, num_trials=2)
    watcher = tuning._Watcher(ledger, plan)

    ended = []
    for number in (1, 2):
        ledger.draw()
        ledger.update(number, status="completed")
        watcher.on_experiment_end([])
        ended.append(watcher.was_interrupted)

    assert ended == [True, False]


class FullDisk:
    """Where nothing that is told can be written."""

    def begin(self, trials: Sequence[Trial], num_trials: int) -> None:
        pass

    def update(self, trial: Trial) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_trial_that_finds_no_room_ends_the_sweep_and_has_not_failed(number: int, tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    search = RandomSearch(SearchSpace({}), seed=0)
    ledger = Ledger(folders, search, plan.objective, num_trials=2)
    watcher = tuning._Watcher(ledger, plan)
    ledger.trials[1] = Trial(number=1, hyperparameters=search.propose(1))
    (tmp_path / "error.txt").write_text(f"Failure # 1\nOSError: {OSError(number, 'no room')}\n")
    tunes: Any = SimpleNamespace(config={"number": 1}, num_failures=3, error_file=str(tmp_path / "error.txt"))

    watcher.on_trial_error(0, [], tunes)

    assert isinstance(watcher.error, OSError)
    assert watcher.error.errno == number
    assert ledger.trials[1].error == ""


def test_a_full_disk_that_a_retry_got_over_does_not_end_the_sweep(tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    search = RandomSearch(SearchSpace({}), seed=0)
    ledger = Ledger(folders, search, plan.objective, num_trials=1)
    watcher = tuning._Watcher(ledger, plan)
    ledger.draw()
    failures = f"Failure # 1\nOSError: {OSError(errno.ENOSPC, 'no room')}\nFailure # 2\nRuntimeError: NaN\n"
    (tmp_path / "error.txt").write_text(failures)
    tunes: Any = SimpleNamespace(config={"number": 1}, num_failures=3, error_file=str(tmp_path / "error.txt"))

    watcher.on_trial_error(0, [], tunes)

    assert watcher.error is None
    assert (ledger.trials[1].status, ledger.trials[1].error) == ("failed", "RuntimeError: NaN")


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.00 TiB for an array",
    ],
)
def test_a_trial_that_had_too_little_memory_says_so_in_words(line: str) -> None:
    assert tuning._reason(f"1\n{line}\n").startswith("out of memory; run fewer trials at once")


def test_a_disk_that_is_full_ends_a_sweep_whose_error_is_told_after_it(tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    search = RandomSearch(SearchSpace({}), seed=0)
    ledger = Ledger(folders, search, plan.objective, num_trials=2, views=[FullDisk()])
    watcher = tuning._Watcher(ledger, plan)
    ledger.trials[1] = Trial(number=1, hyperparameters=search.propose(1))
    tunes: Any = SimpleNamespace(config={"number": 1}, num_failures=0)

    watcher.on_trial_result(0, [], tunes, {"epoch": 1})
    watcher.on_trial_complete(1, [], tunes)
    watcher.on_experiment_end([])

    assert watcher.stop_all()
    assert isinstance(watcher.error, OSError)
    assert watcher.error.errno == errno.ENOSPC


def test_a_sweep_that_is_taken_over_ends_its_trials(tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    folders.ownership.take()
    ledger = Ledger(folders, RandomSearch(SearchSpace({}), seed=0), plan.objective, num_trials=2)
    ledger.draw()
    watcher = tuning._Watcher(ledger, plan)
    TrialFolders(tmp_path).ownership.take()
    tunes: Any = SimpleNamespace(config={"number": 1}, num_failures=0)

    watcher.on_trial_complete(1, [], tunes)

    assert watcher.stop_all()
    assert isinstance(watcher.error, OutputError)


def test_an_output_that_a_node_lacks_ends_the_sweep_with_the_nodes_sentence(tmp_path: Path) -> None:
    plan, folders = Plan(), TrialFolders(tmp_path)
    ledger = Ledger(folders, RandomSearch(SearchSpace({}), seed=0), plan.objective, num_trials=2)
    ledger.draw()
    watcher = tuning._Watcher(ledger, plan)
    failure = "Failure # 1\nin its creation task\nlstmfcn.errors.ResourceError: --output s isn't there\n"
    (tmp_path / "error.txt").write_text(failure)
    tunes: Any = SimpleNamespace(config={"number": 1}, num_failures=1, error_file=str(tmp_path / "error.txt"))

    watcher.on_trial_recover(0, [], tunes)  # it wouldn't help to try again

    assert watcher.stop_all()
    assert str(watcher.error) == "--output s isn't there"


@pytest.mark.parametrize("name", ["my sweep", "run#2", "a%20b", "a[1]", "é", "why?"])
def test_tune_keeps_its_files_in_the_folder_whatever_its_name(name: str, bucket: ObjectPath) -> None:
    folder = bucket / name

    _, path = fs.FileSystem.from_uri(tuning._as_uri(folder))

    assert path == str(folder.key)
