from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lstmfcn import range_prediction
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.identifiers import Identifiers
from lstmfcn.journal import Journal
from lstmfcn.layout import Layout
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.range_prediction import RangeReport, Work, pack_range, predict_range, read_range, unpack_range
from lstmfcn.ranges import Block, find_inputs, plan_ranges
from tests.samples import LENGTH

LAYOUT = Layout(PredictionFormat(identifiers=Identifiers((1,))), ("label",))
ROW = ",".join(["1.5", *["2"] * (LENGTH - 1)])
ROWS = f"\ufeffpé,{ROW}\nq,x,{ROW}\r\n" + f"r,{ROW}\n" * 3


def work(folder: Path, rows: str = ROWS) -> Work:
    path = folder / "series.csv"
    path.write_bytes(rows.encode())
    files, _ = find_inputs(path, None)
    journal = Journal(folder / "output")
    journal.begin({"input": []})
    return Work(files, plan_ranges(files, 1 << 20), LENGTH, [LAYOUT], "mark", journal)


def same(one: Block, other: Block) -> bool:
    rest = (one.num_rows, one.identifiers, one.faults) == (other.num_rows, other.identifiers, other.faults)
    return rest and np.array_equal(one.series, other.series)


def test_a_range_that_another_process_has_read_is_what_it_would_be_if_read_here(tmp_path: Path) -> None:
    of_all = work(tmp_path)
    sent = pack_range(of_all, 0)

    report, blocks = unpack_range({**sent, "series": np.asarray(sent["series"])})

    assert blocks is not None
    (block,) = blocks
    (read,) = read_range(of_all, 0, RangeReport(0, 0.0))
    assert same(block, read)
    assert block.identifiers == ["pé".encode(), b"q", b"r", b"r", b"r"]
    assert [(fault.row, fault.line) for fault in block.faults] == [(2, f"q,x,{ROW}".encode())]
    assert report.read_seconds > 0


def test_a_range_that_grows_too_long_to_be_sent_is_left_to_its_predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_prediction, "_MOST_CELLS_SENT", LENGTH)

    assert unpack_range(pack_range(work(tmp_path), 0))[1] is None


def test_a_report_reads_back_from_json() -> None:
    report = RangeReport(3, 1.5, faults=[(2, " is blank")], num_rows=4)
    values: dict[str, Any] = json.loads(json.dumps(asdict(report)))

    assert RangeReport.from_dict(values) == report


class WithoutMemory(Predictor):
    def cells(self, *_: Any, **__: Any) -> NDArray[np.object_]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_full_memory_ends_a_transform_in_a_sentence(trained: Checkpoint, tmp_path: Path) -> None:
    of_all, report = work(tmp_path), RangeReport(0, 0.0)

    predict_range(of_all, report, read_range(of_all, 0, report), WithoutMemory(trained))

    advice = "has no memory left; use fewer (--predictors of jobs.transform), or give them more memory"
    assert advice in report.error


def test_an_error_that_is_none_of_memory_is_not_taken_for_one(trained: Checkpoint, tmp_path: Path) -> None:
    class Broken(Predictor):
        def cells(self, *_: Any, **__: Any) -> NDArray[np.object_]:
            raise RuntimeError("shapes differ")

    of_all, report = work(tmp_path), RangeReport(0, 0.0)

    with pytest.raises(RuntimeError, match="shapes differ"):
        predict_range(of_all, report, read_range(of_all, 0, report), Broken(trained))


def test_a_byte_order_mark_is_no_part_of_a_bad_first_row(tmp_path: Path) -> None:
    (block,) = read_range(work(tmp_path, f"\ufeffp,x{ROW}\n"), 0, RangeReport(0, 0.0))

    assert [fault.line for fault in block.faults] == [f"p,x{ROW}".encode()]


def test_a_file_of_a_byte_order_mark_alone_is_empty(tmp_path: Path) -> None:
    report = RangeReport(0, 0.0)

    assert list(read_range(work(tmp_path, "\ufeff"), 0, report)) == []

    assert report.faults == [(0, f"{tmp_path / 'series.csv'} is empty")]
