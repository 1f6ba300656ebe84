from __future__ import annotations

from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from lstmfcn.tensorboard import write_events


def read(path: Path) -> list[Event]:
    content = path.read_bytes()
    events = []
    while content:
        length = int.from_bytes(content[:8], "little")
        record, content = content[: 16 + length], content[16 + length :]
        assert masked_crc32c(record[:8]) == int.from_bytes(record[8:12], "little")
        assert masked_crc32c(record[12:-4]) == int.from_bytes(record[-4:], "little")
        events.append(Event.FromString(record[12:-4]))
    return events


def test_epochs_are_points_in_files_that_follow_each_other(tmp_path: Path) -> None:
    history = [{"train_loss": 1.5}, {"train_loss": 0.5}, {"train_loss": 0.25}]

    write_events(tmp_path, history[:2], 0)
    write_events(tmp_path, history, 2)

    first, second = sorted(tmp_path.iterdir())
    assert "tfevents" in first.name
    head, *events = read(first)
    assert head.file_version == "brain.Event:2"
    (_, last) = read(second)
    points = [
        (event.step, one.tag, one.simple_value) for event in [*events, last] for one in event.summary.value
    ]
    assert points == [(1, "train_loss", 1.5), (2, "train_loss", 0.5), (3, "train_loss", 0.25)]
