from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray.data import DataContext

from jobs.transform import transform
from lstmfcn import ranges, storage
from lstmfcn import transform as lstmfcn_transform
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.errors import OutputError
from lstmfcn.identifiers import Identifiers
from lstmfcn.journal import Journal
from lstmfcn.object_storage import ObjectPath
from lstmfcn.prediction_format import PredictionFormat
from lstmfcn.predictor import Predictor
from lstmfcn.range_prediction import RangeReport
from lstmfcn.ranges import find_inputs
from lstmfcn.storage import Location
from lstmfcn.transform import Advance, Options
from lstmfcn.treatment import LengthTreatment, Treatment
from tests.commands import refused, status_of
from tests.samples import (
    LENGTH,
    broken_input,
    make_channels,
    make_dataset,
    write_csv,
    write_gappy_csv,
    write_named_csv,
)

needs_ray = pytest.mark.usefixtures("cluster")


def expected_lines(checkpoint_folder: Path, path: Path) -> bytes:
    return Predictor.load(checkpoint_folder).predict_csv(path.read_bytes(), source="expected")


@needs_ray
# Of 30 rows, so that some of 80 ranges begin no row.
@pytest.mark.parametrize(("num_ranges", "predictors"), [(1, 2), (2, 1), (80, 1), (80, 2)])
def test_predictions_are_in_input_order_for_any_number_of_ranges_and_predictors(
    num_ranges: int,
    predictors: int,
    checkpoint_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_csv(tmp_path / "series.csv", make_dataset(30, seed=3), labelled=False)
    range_bytes = -(-path.stat().st_size // num_ranges)
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", range_bytes)
    monkeypatch.setattr(ranges, "_LARGEST_RANGE", range_bytes)
    expected = expected_lines(checkpoint_folder, path)
    assert len(set(expected.splitlines())) == 2

    flags = ("--checkpoint", checkpoint_folder, "--input", path, "--output", tmp_path / "output")
    assert status_of(transform, *flags, "--predictors", predictors) == 0

    assert (tmp_path / "output" / "series.csv.out").read_bytes() == expected
    assert {path.name for path in (tmp_path / "output").iterdir()} == {"series.csv.out", "transform.json"}


@needs_ray
def test_a_range_may_take_longer_than_ray_data_waits_for_an_output(
    series_csv: Path, trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataContext.get_current(), "execution_no_progress_timeout_s", 0.01)
    files, _ = find_inputs(series_csv, None)

    summary = lstmfcn_transform.transform(trained, files, tmp_path / "output", Options())

    assert summary.num_rows == len(series_csv.read_bytes().splitlines())


@needs_ray
def test_the_same_rows_in_40_files_give_the_same_lines(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path
) -> None:
    lines = series_csv.read_bytes().splitlines(keepends=True)
    folder, output = tmp_path / "input", tmp_path / "output"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.csv").write_bytes(b"".join(lines[5 * number : 5 * number + 5]))

    flags = ("--checkpoint", checkpoint_folder, "--input", folder, "--output", output)
    assert status_of(transform, *flags) == 0

    outputs = b"".join(path.read_bytes() for path in sorted(output.glob("*.out")))
    assert outputs == expected_lines(checkpoint_folder, series_csv)


@needs_ray
def test_identifiers_and_probabilities_stand_where_they_were_asked_for(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = make_dataset(200, seed=3).series
    lines = series_csv.read_text().splitlines()
    with_ids = [f'p{n},{line},"a, {n}"' for n, line in enumerate(lines)]
    path = tmp_path / "ids.csv"
    path.write_text("\n".join(with_ids) + "\n")
    flags = ("--checkpoint", checkpoint_folder, "--input", path, "--id-columns", f"1,{LENGTH + 2}")
    predictor = Predictor.load(checkpoint_folder)
    labels = predictor.labels(series)
    texts = [",".join(map(str, row)) for row in predictor.probabilities(series)]

    assert status_of(transform, *flags, "--output", tmp_path / "a", "--columns", "label,probabilities") == 0
    assert (tmp_path / "a" / "ids.csv.out").read_text().splitlines() == [
        f'p{n},"a, {n}",{label},{text}' for n, (label, text) in enumerate(zip(labels, texts, strict=True))
    ]

    assert status_of(transform, *flags, "--output", tmp_path / "b", "--join", "input") == 0
    assert (tmp_path / "b" / "ids.csv.out").read_text().splitlines() == [
        f"{line},{label}" for line, label in zip(with_ids, labels, strict=True)
    ]


@needs_ray
def test_a_transform_computes_in_the_precision_that_it_is_asked_for(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path
) -> None:
    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--columns", "probabilities")
    series = make_dataset(200, seed=3).series

    assert status_of(transform, *flags, "--output", tmp_path / "output", "--precision", "bf16") == 0

    answer = (tmp_path / "output" / "series.csv.out").read_text()
    in_bf16, in_fp32 = (
        Predictor.load(checkpoint_folder, precision=precision).probabilities(series)
        for precision in ("bf16", "fp32")
    )
    assert answer.splitlines() == [",".join(map(str, row)) for row in in_bf16]
    assert not np.array_equal(in_bf16, in_fp32)


@pytest.mark.parametrize("clock", [0.0, 3600.0, -3600.0])
def test_reports_are_told_by_the_drivers_clock(clock: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstmfcn_transform, "time", SimpleNamespace(time=lambda: 110.0))
    times = [(105.0, 107.0), (107.0, 110.0)]
    reports = [RangeReport(0, started + clock, ended=ended + clock) for started, ended in times]

    told = lstmfcn_transform._by_our_clock(reports)

    assert [(report.started, report.ended) for report in told] == times


@pytest.mark.parametrize(
    "changed",
    [
        Options(format=PredictionFormat(("label",))),
        Options(format=PredictionFormat(identifiers=Identifiers(positions=(1,)))),
        Options(format=PredictionFormat(identifiers=Identifiers(names=("id",)))),
        Options(format=PredictionFormat(join_input=True)),
        Options(bad_rows="mark"),
        Options(max_bad_rows=5),
        Options(precision="bf16"),
        Options(gpus_per_predictor=0.5),
    ],
)
def test_what_changes_the_lines_of_an_output_changes_what_can_be_resumed(
    changed: Options, trained: Checkpoint, series_csv: Path
) -> None:
    files, _ = find_inputs(series_csv, None)

    plan, other = (lstmfcn_transform._plan(trained, files, options) for options in (Options(), changed))

    assert len([name for name in plan if plan[name] != other[name]]) == 1


@needs_ray
@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("reads_apart", [True, False])
def test_a_file_with_a_header_is_answered_by_one_through_all_its_ranges(
    reads_apart: bool, trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Options, "reads_apart", reads_apart)
    dataset = make_dataset(200, seed=3)
    path = write_named_csv(tmp_path / "series.csv", dataset, labelled=False, seed=0)
    expected = Predictor(trained).predict_csv(path.read_bytes(), source="expected")
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line},{'id' if n == 0 else f'p{n}'}\n" for n, line in enumerate(lines)))
    files, _ = find_inputs(path, None)
    options = Options(format=PredictionFormat(identifiers=Identifiers(names=("id",))), num_predictors=2)

    summary = lstmfcn_transform.transform(trained, files, tmp_path / "output", options)

    answer = (tmp_path / "output" / "series.csv.out").read_text().splitlines()
    assert answer[0] == "id,y_1,y_2,p_1,p_2"
    assert answer == [
        f"{'id' if n == 0 else f'p{n}'},{line}" for n, line in enumerate(expected.decode().splitlines())
    ]
    assert summary.num_rows == 200


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_series_of_several_channels_are_predicted_in_both_formats(
    trained_channels: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_channels.save(tmp_path / "model")
    dataset = make_channels(100, seed=3)
    plain = write_csv(tmp_path / "input" / "plain.csv", dataset, labelled=False)
    named = write_named_csv(tmp_path / "input" / "named.csv", dataset, labelled=False, seed=0)
    output = tmp_path / "output"
    flags = ("--checkpoint", tmp_path / "model", "--input", tmp_path / "input", "--output", output)

    assert status_of(transform, *flags) == 0

    predictor = Predictor(trained_channels)
    for path in (plain, named):
        expected = predictor.predict_csv(path.read_bytes(), source="expected")
        assert (output / f"{path.name}.out").read_bytes() == expected
    assert "200 rows of length 12 in 3 channels in 2 files" in capsys.readouterr().out


@needs_ray
@pytest.mark.parametrize(
    "place",
    ["disk", pytest.param("s3", marks=pytest.mark.long)],  # Ray's processes reach no other
    indirect=True,
)
@pytest.mark.usefixtures("small_ranges")
def test_an_interrupted_transform_goes_on_without_predicting_a_range_again(
    series_csv: Path, trained: Checkpoint, place: Location
) -> None:
    data, output = place / "input", place / "output"
    storage.write_bytes(data / "series.csv", series_csv.read_bytes())
    files, _ = find_inputs(data, output)
    done = []

    def interrupt(advance: Advance) -> None:
        done.append(advance.num_rows)
        if len(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lstmfcn_transform.transform(trained, files, output, Options(), on_advance=interrupt)
    interrupted = Journal(output)
    interrupted.resume({})
    committed = set(interrupted.parts())
    assert len(committed) >= 5
    assert "series.csv.out" not in storage.names(output)
    other = Options(format=PredictionFormat(("probabilities",)))
    with pytest.raises(OutputError, match=r"^--resume: columns changed since .* was begun; --overwrite"):
        lstmfcn_transform.transform(trained, files, output, other, resume=True)

    again: list[Advance] = []
    summary = lstmfcn_transform.transform(
        trained, files, output, Options(), resume=True, on_advance=again.append
    )

    before, *new = again
    assert not before.is_new
    assert before.num_bytes >= 1000 * len(committed)
    assert before.num_bytes + sum(advance.num_bytes for advance in new) == files[0].size
    assert summary.num_predicted == sum(advance.num_rows for advance in new) < summary.num_rows == 200
    expected = Predictor(trained).predict_csv(series_csv.read_bytes(), source="expected")
    assert storage.read_bytes(output / "series.csv.out") == expected
    assert set(storage.names(output)) == {"series.csv.out", "transform.json"}


@needs_ray
@pytest.mark.usefixtures("small_ranges")
def test_object_storage_serves_for_checkpoint_input_and_output(
    series_csv: Path, trained: Checkpoint, bucket: ObjectPath, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bucket / "all three"
    trained.save(place / "model")
    content = series_csv.read_bytes()
    storage.write_bytes(place / "input" / "k=v" / "ä.csv", content)
    storage.write_bytes(place / "input" / "zipped.csv.gz", gzip.compress(content))
    storage.write_bytes(place / "input" / "bad.csv", content + b"x\n")
    flags = ("--checkpoint", place / "model", "--input", place / "input", "--output", place / "output")

    assert status_of(transform, *flags, "--columns", "label,probabilities") == 2

    assert capsys.readouterr().err.startswith(f"{place}/input/bad.csv: row 201 ")
    series = make_dataset(200, seed=3).series
    cells = list(Predictor(trained).cells(series, ("label", "probabilities")))
    for name in ("k=v/ä.csv.out", "zipped.csv.gz.out"):
        assert storage.read_bytes(place / "output" / name) == b"".join(line + b"\n" for line in cells)
    assert set(storage.names(place / "output")) == {"k=v", "transform.json", "zipped.csv.gz.out"}


@needs_ray
def test_unfinished_work_is_refused_by_name_and_nothing_can_not_be_resumed(
    series_csv: Path, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    flags = ("--checkpoint", checkpoint_folder, "--input", series_csv, "--output", output)

    assert status_of(transform, *flags, "--resume") == 2
    assert f"--resume: {output} holds no unfinished transform" in capsys.readouterr().err
    Journal(output).begin({"input": []})
    assert status_of(transform, *flags) == 2
    assert f"--output {output} holds an unfinished transform; --resume goes on" in capsys.readouterr().err
    assert status_of(transform, *flags, "--overwrite") == 0
    assert set(storage.names(output)) == {"series.csv.out", "transform.json"}

    series_csv.write_bytes(b"1,2\n")
    assert status_of(transform, *flags, "--overwrite") == 2
    assert not output.exists()


@needs_ray
@pytest.mark.parametrize("zipped", [False, True])
def test_ranges_that_another_process_has_read_give_the_same_lines(
    zipped: bool,
    series_csv: Path,
    trained: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way to a GPU, without the GPU."""
    monkeypatch.setattr(ranges, "_SMALLEST_RANGE", 3000)
    expected = Predictor(trained).predict_csv(series_csv.read_bytes(), source="expected").splitlines()
    lines = series_csv.read_bytes().splitlines()
    lines[149], expected[149] = b"1,2", b"ERROR"
    content = b"\n".join(lines) + b"\n"
    path = tmp_path / "input.csv.gz"
    path.write_bytes(gzip.compress(content) if zipped else content)
    files, _ = find_inputs(path, None)
    monkeypatch.setattr(Options, "reads_apart", True)
    options = Options(bad_rows="mark", num_predictors=2)

    lstmfcn_transform.transform(trained, files, tmp_path / "output", options)

    assert (tmp_path / "output" / "input.csv.gz.out").read_bytes().splitlines() == expected
    assert (tmp_path / "output" / "input.csv.gz.rejects.csv").read_text().splitlines()[1].startswith("150,")


@pytest.mark.parametrize("kind", ["missing file", "folder without csv"])
def test_input_without_a_file_is_refused(
    kind: str, checkpoint_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_input(kind, tmp_path / "input", labelled=False)

    assert str(path) in refused(
        capsys, tmp_path / "output", transform, "--checkpoint", checkpoint_folder, "--input", path
    )


def test_an_output_folder_is_needed_to_predict(series_csv: Path, trained: Checkpoint, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")

    assert status_of(transform, "--checkpoint", tmp_path / "model", "--input", series_csv) == 2


@needs_ray
@pytest.mark.long
def test_a_file_of_200_mb_keeps_its_order(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    one_set = write_csv(tmp_path / "set.csv", make_dataset(20_000, seed=1), labelled=False).read_bytes()
    path.write_bytes(one_set * (200_000_000 // len(one_set) + 1))

    assert status_of(transform, "--checkpoint", checkpoint_folder, "--input", path, "--output", tmp_path) == 0

    predictor = Predictor.load(checkpoint_folder)
    rows, lines = path.read_bytes().splitlines(), (tmp_path / "large.csv.out").read_bytes().splitlines(True)
    assert len(lines) == len(rows)
    for row in np.random.default_rng(0).choice(len(rows), size=1000, replace=False):
        assert predictor.predict_csv(rows[row], source="row") == lines[row]


@needs_ray
@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize(("length", "reads_apart"), [("pad", False), ("resample", True)])
def test_rows_with_gaps_and_of_unequal_lengths_are_predicted_through_all_ranges(
    length: LengthTreatment,
    reads_apart: bool,
    trained: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Options, "reads_apart", reads_apart)
    checkpoint = replace(trained, treatment=Treatment(missing="interpolate", length=length))
    names, bad = ("plain", "named"), "," * (LENGTH - 1)
    expected = {}
    for name in names:
        path = tmp_path / "input" / f"{name}.csv"
        write_gappy_csv(path, make_dataset(100, seed=3), labelled=False, named=name == "named")
        expected[name] = Predictor(checkpoint).predict_csv(path.read_bytes(), source="expected").splitlines()
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:-50], bad, *lines[-50:]]) + "\n")
    files, _ = find_inputs(tmp_path / "input", None)
    options = Options(bad_rows="mark", num_predictors=2)

    lstmfcn_transform.transform(checkpoint, files, tmp_path / "output", options)

    for name, row in zip(names, (51, 52), strict=True):
        answer = (tmp_path / "output" / f"{name}.csv.out").read_bytes().splitlines()
        assert answer.pop(-51).startswith(b"ERROR")
        assert answer == expected[name]
        assert (tmp_path / "output" / f"{name}.csv.rejects.csv").read_text() == (
            f'row,reason,line\n{row},has no values; a series has at least 2,"{bad}"\n'
        )
