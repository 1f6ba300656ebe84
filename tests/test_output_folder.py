from pathlib import Path

import pytest

from lstmfcn import output_folder, storage
from lstmfcn.errors import OutputError
from lstmfcn.storage import Location
from tests.commands import without_room


def test_an_output_folder_with_a_result_is_refused_by_name(place: Location) -> None:
    storage.write_bytes(place / "a" / "b.csv.out", b"")

    output_folder.check(place, "*.json", overwrite=False)
    output_folder.check(place, "**/*.out", overwrite=True)
    with pytest.raises(OutputError) as refused:
        output_folder.check(place, "*.json", "**/*.out", overwrite=False)

    assert str(refused.value) == (
        f"--output {place} already holds a result (a/b.csv.out);"
        " choose another folder, or add --overwrite to replace it"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_a_file_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"is a file; it must be a folder$"):
        output_folder.check(tmp_path / "file", overwrite=overwrite)


@pytest.mark.parametrize("output", ["/proc/x/y", "s3://nowhere/x"])
@pytest.mark.usefixtures("bucket")
def test_an_output_that_cannot_be_written_is_refused(output: str) -> None:
    with pytest.raises(OutputError, match=f"^--output {output} can't be written: "):
        output_folder.check(storage.location(output), overwrite=True)


def test_an_output_on_a_full_disk_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    raised = without_room(f"output_folder.check(Path({str(tmp_path / 'new')!r}), overwrite=True)")

    assert raised == f"lstmfcn.errors.OutputError: --output {tmp_path}/new can't be written: File too large"


def test_an_output_in_the_copy_that_a_submitted_job_runs_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)

    with pytest.raises(OutputError, match=r"^--output sweep would be lost .* an absolute path"):
        output_folder.check(Path("sweep"), overwrite=True)
    output_folder.check(tmp_path / "sweep", overwrite=True)


def test_checking_an_output_folder_makes_nothing(tmp_path: Path) -> None:
    output_folder.check(tmp_path / "new" / "deep", "*", overwrite=False)

    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match=r"file/results can't be written: Not a directory$"):
        output_folder.check(tmp_path / "file" / "results", overwrite=False)


def test_an_output_folder_within_a_folder_with_data_is_refused(place: Location) -> None:
    output_folder.refuse_within(place / "results", place / "data", None)

    with pytest.raises(
        OutputError, match=r"data/results lies within .*data, all of whose CSV files are data"
    ):
        output_folder.refuse_within(place / "data" / "results", None, place / "data")
