from __future__ import annotations

import csv
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lstmfcn import outcome, storage
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.journal import Journal, Part
from lstmfcn.layout import Layout
from lstmfcn.outcome import FileResult, Outcomes, Rates, in_lines
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.range_prediction import BadRows, RangeReport, Work, predict_range, read_range
from lstmfcn.ranges import ByteRange, InputFile, find_inputs
from lstmfcn.storage import Location
from tests.samples import LENGTH, make_dataset

FILES = [InputFile(Path(name), name, name, 20, 0) for name in ("a.csv", "b.csv")]
RANGES = [ByteRange(file, part, 10 * part, 10 * part + 10) for file in (0, 1) for part in (0, 1)]
CUT = "of a file no more than 100 faults are listed"
PLAIN = Layout(PredictionFormat(), ("label",))


def task(bad_rows: BadRows = "fail") -> Work:
    return Work(FILES, RANGES, 3, [PLAIN, PLAIN], bad_rows, journal=None)


def report(number: int, *faults: tuple[int, str], num_bad: int = 0) -> RangeReport:
    return RangeReport(number, 0.0, num_rows=5, num_bad=num_bad, faults=list(faults))


def test_a_file_is_concluded_when_its_last_range_is_done_in_whatever_order() -> None:
    outcomes = Outcomes(task(), None)

    outcomes.add(report(1))
    outcomes.add(report(2))
    assert outcomes.concluded == {}

    outcomes.add(report(0))
    assert outcomes.concluded == {0: FileResult("a.csv", "a.csv", 10, 0, [], is_sound=True)}


def test_a_file_that_was_replaced_while_it_was_read_has_no_output(place: Location) -> None:
    storage.write_bytes(place / "data.csv", b"1,2\n")
    files, _ = find_inputs(place / "data.csv", None)
    journal = Journal(place / "output")
    journal.begin({"input": [["data.csv", 4, 0]]})
    outcomes = Outcomes(Work(files, [ByteRange(0, 0, 0, 4)], 2, [PLAIN], "fail", journal), None)
    storage.write_bytes(journal.folder / "0" / "0.1-0", b"a\n")
    storage.write_bytes(place / "data.csv", b"1,2\n3,4\n")

    outcomes.add(RangeReport(0, 0.0, num_rows=1))

    assert outcomes.concluded[0].faults == [
        f"{place / 'data.csv'} was changed while it was read; it must stay as it is"
    ]
    assert storage.names(place / "output") == [".transform"]


def test_faults_have_the_files_rows_and_leave_it_without_an_output() -> None:
    outcomes = Outcomes(task(), None)

    outcomes.add(report(1, (2, ", column 3: 'x' is not a finite number"), (4, " is blank")))
    outcomes.add(report(0))

    result = outcomes.concluded[0]
    assert not result.is_sound
    assert result.num_rows == 0
    assert result.faults == [
        "a.csv: row 7, column 3: 'x' is not a finite number",
        "a.csv: row 9 is blank",
    ]


def test_faults_after_rows_that_were_not_counted_are_not_told() -> None:
    ranges = [ByteRange(0, part, 10 * part, 10 * part + 10) for part in range(4)]
    outcomes = Outcomes(Work(FILES, ranges, 3, [PLAIN, PLAIN], "fail", journal=None), None)
    left_out = RangeReport(2, 0.0, is_left_out=True, is_counted=False)

    for one in (report(3, (1, " is blank")), report(1, (2, " is blank")), left_out, report(0)):
        outcomes.add(one)

    assert outcomes.concluded[0].faults == ["a.csv: row 7 is blank"]


def test_a_fault_that_several_ranges_find_is_told_once() -> None:
    outcomes = Outcomes(task(), None)

    for number in (0, 1):
        outcomes.add(report(number, (0, "a.csv has become shorter while it was read")))

    assert outcomes.concluded[0].faults == ["a.csv has become shorter while it was read"]


def test_a_range_with_a_fault_is_done_though_it_has_no_predictions() -> None:
    outcomes = Outcomes(task(), None)

    outcomes.add(report(0, (1, " is blank")))

    assert outcomes.done_ranges() == {0}


def test_marked_rows_leave_a_file_sound_up_to_a_number() -> None:
    for most, sound in ((None, True), (2, True), (1, False)):
        outcomes = Outcomes(task("mark"), most)
        for number in (0, 1):
            outcomes.add(report(number, (1, " is blank"), num_bad=1))
        assert outcomes.concluded[0].is_sound == sound

    assert outcomes.concluded[0].faults == ["a.csv has 2 bad rows, more than --max-bad-rows 1"]


def test_what_an_earlier_run_has_done_counts() -> None:
    concluded = {0: FileResult("a.csv", "a.csv", 10, 0, [], is_sound=True)}
    outcomes = Outcomes(task(), None, [Part(1, 1, 7, 0)], concluded)
    assert outcomes.done_ranges() == {0, 1, 3}
    assert outcomes.done_bytes() == 30

    outcomes.add(report(2))

    assert outcomes.concluded[1] == FileResult("b.csv", "b.csv", 12, 0, [], is_sound=True)


@pytest.mark.parametrize(
    ("done", "text"),
    [
        ([], "0 of 2 files done"),
        ([report(2)], "0 of 2 files done, b.csv 50%"),
        (
            [report(2), report(0), report(1, (1, " is blank"))],
            "1 of 2 files done, 1 without an output, b.csv 50%",
        ),
    ],
)
def test_the_state_of_the_files_in_a_few_words(done: list[RangeReport], text: str) -> None:
    outcomes = Outcomes(task(), None)
    for one in done:
        outcomes.add(one)

    assert str(outcomes) == text


def test_only_the_faults_of_rows_keep_others_from_a_file(trained: Checkpoint, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({"input": []})
    work = Work(FILES, RANGES, 3, [PLAIN, PLAIN], "fail", journal)

    predict_range(work, report(0, (0, "a.csv does not exist on this node")), [], Predictor(trained))
    assert journal.first_fault(0) is None
    predict_range(work, report(1, (2, " is blank")), [], Predictor(trained))
    assert journal.first_fault(0) == 1


def test_of_many_faulty_files_the_first_fault_of_each_is_told() -> None:
    faults = [[f"a{number}" for number in range(150)], ["b"], ["c0", "c1", "c2"]]

    lines = in_lines(faults).split("\n")

    assert lines == [*(f"a{number}" for number in range(98)), "b", "c0", "and 54 more faults", CUT]


def test_a_joined_line_that_is_no_csv_becomes_one_cell(trained: Checkpoint, tmp_path: Path) -> None:
    rows = [make_dataset(1).series[0].tolist()] * 2
    good, last = (",".join(map(str, row)).encode() for row in rows)
    path = tmp_path / "data.csv"
    path.write_bytes(b"\n".join([b"\xef\xbb\xbfa", good, b'"a,1', b"x\ry", b"plain", b"1,2\r\r", last, b""]))
    (file,), _ = find_inputs(path, None)
    layout = Layout(PredictionFormat(join_input=True), ("label",))
    journal = Journal(tmp_path / "output")
    journal.begin({"input": []})
    work = Work([file], [ByteRange(0, 0, 0, file.size)], LENGTH, [layout], "mark", journal)
    read = RangeReport(0, 0.0)

    predict_range(work, read, read_range(work, 0, read), Predictor(trained))

    [part] = journal.parts()
    written = list(csv.reader(storage.read_bytes(journal.folder / part.name).decode().splitlines()))
    bad = [row[:-1] for row in written if row[-1] == "ERROR"]
    assert bad == [["a"], ['"a,1'], ["x\\ry"], ["plain"], ["1,2\\r"]]
    assert written[1] == written[6] == [*good.decode().split(","), written[1][-1]]


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError()])
def test_a_file_that_one_node_can_not_read_is_not_taken_for_faulty(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    read = RangeReport(0, 0.0)
    monkeypatch.setattr(Path, "open", fail)

    assert list(read_range(task(), 0, read)) == []

    assert f"on {platform.node()}, which was to read it" in read.missing
    assert read.faults == [(0, read.missing)]


def test_a_summarys_rates_are_of_all_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "time", SimpleNamespace(time=lambda: 112.0))
    counts: dict[str, Any] = {
        "num_rows": 600,
        "num_predicted": 500,
        "read_seconds": 1.0,
        "predict_seconds": 3.0,
    }
    rates = Rates()

    rates.add(RangeReport(0, 105.0, ended=109.0, **counts))
    rates.add(RangeReport(1, 106.0, ended=110.0, **counts))

    files = [FileResult("a.csv", "a.csv", 1000, 200, [], is_sound=True)]
    summary = rates.summary("checkpoint", "plan", "fp32", 2, 100.0, files)
    assert (summary.num_rows, summary.num_bad, summary.num_predicted) == (1000, 200, 1000)
    assert (summary.seconds, summary.startup_seconds) == (12.0, 5.0)
    assert (summary.rows_per_second, summary.read_rows_per_second) == (240.0, 600.0)
    assert (summary.predict_rows_per_second, summary.cpus_per_predictor) == (166.7, 0.3)
    assert summary.predictor_busy == 0.6
