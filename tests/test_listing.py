from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from lstmfcn import listing, storage
from lstmfcn.errors import DataError
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location


def test_csv_files_of_a_folder_are_found_below_it_in_order(place: Location) -> None:
    names = ["a.csv.gz", "b.csv", "k=v/ä c.csv"]
    for name in [*reversed(names), "notes.txt"]:
        storage.write_bytes(place / name, b"1,2\n")

    assert listing.csv_files(place) == [place / name for name in names]
    assert listing.csv_files(place / "b.csv") == [place / "b.csv"]


def test_folders_elsewhere_that_a_folder_links_to_are_searched_too_and_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for name in (folder / "runs" / "a.csv", elsewhere / "b.csv"):
        storage.write_bytes(name, b"1,2\n")
    (folder / "current").symlink_to(folder / "runs")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (elsewhere / "round").symlink_to(elsewhere)
    storage.write_bytes(elsewhere / "2024" / "c.csv", b"1,2\n")
    (elsewhere / "latest").symlink_to(elsewhere / "2024")
    (folder / "newest").symlink_to(elsewhere / "2024")

    assert listing.csv_files(folder) == [
        folder / "linked" / "b.csv",
        folder / "newest" / "c.csv",
        folder / "runs" / "a.csv",
    ]


def test_a_file_is_told_from_a_later_one_of_its_name(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / "a.csv"
    storage.write_bytes(path, b"1,2\n")
    (before,) = listing.files(place)
    later = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=1)  # the server keeps whole seconds
    monkeypatch.setattr("moto.s3.models.utcnow", lambda: later)
    time.sleep(0.01)

    storage.write_bytes(path, b"3,4\n")

    (after,) = listing.files(path)
    assert (before.path, before.size) == (after.path, after.size) == (path, 4)
    assert before.modified < after.modified


def test_a_folder_without_csv_files_is_refused(place: Location) -> None:
    storage.write_bytes(place / "notes.txt", b"")

    with pytest.raises(DataError, match=r"holds no \*.csv or \*.csv.gz file$"):
        listing.csv_files(place)
    with pytest.raises(DataError, match=r"none does not exist$"):
        listing.csv_files(place / "none")


def test_a_pipe_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert listing.csv_files(tmp_path / "pipe") == [tmp_path / "pipe"]


def test_a_folder_that_has_gone_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(tmp_path / "kept" / "a.csv", b"1,2\n")
    (tmp_path / "gone").mkdir()
    listed = os.walk(tmp_path, followlinks=True)

    def remove_after_listing(*_: object, **__: object) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, entry in enumerate(listed):
            if place == 0:
                (tmp_path / "gone").rmdir()
            yield entry

    monkeypatch.setattr(os, "walk", remove_after_listing)

    assert listing.csv_files(tmp_path) == [tmp_path / "kept" / "a.csv"]


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "a.csv", b"1,2\n")
    (tmp_path / ".#a.csv").symlink_to("an editor's mark")
    (tmp_path / "notes.txt").symlink_to("/gone/notes.txt")
    assert listing.csv_files(tmp_path) == [tmp_path / "a.csv"]

    for name in ("b.csv", "latest"):
        (tmp_path / name).symlink_to(f"/gone/{name}")
        with pytest.raises(DataError, match=rf"{name} is a link to /gone/{name}, which does not exist$"):
            listing.csv_files(tmp_path)
        (tmp_path / name).unlink()


def test_an_object_whose_key_is_no_path_is_refused(bucket: ObjectPath, tmp_path: Path) -> None:
    key = f"{tmp_path.name}/d//b.csv"
    boto3.client("s3").put_object(Bucket=str(bucket.key), Key=key, Body=b"1,2\n")

    with pytest.raises(DataError, match=rf"^the key s3://bucket/{key} has // or /./ in it"):
        listing.csv_files(bucket / tmp_path.name)
