"""Metrics as TensorBoard shows them: event files, which are records of protocol buffers.

Each is written whole and new epochs go into a new one, so that they can lie in object storage and be added to
after a crash; TensorBoard reads the files of a folder in the order of their names.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from lstmfcn import storage
from lstmfcn.storage import Location

_NAME = "events.out.tfevents."


def write_events(folder: Location, history: Sequence[Mapping[str, float]], first: int) -> None:
    """Write a file with the metrics of all epochs after the first `first`, a point for each epoch."""
    now = time.time()
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    for number, row in enumerate(history[first:], first + 1):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        events.append(Event(wall_time=now, step=number, summary=Summary(value=values)))
    path = folder / f"{_NAME}{first:08d}"
    storage.write_bytes(path, b"".join(_record(event.SerializeToString()) for event in events))


def remove_events(folder: Location) -> None:
    """Remove all event files of a folder."""
    storage.remove(folder, *(name for name in storage.names(folder) if name.startswith(_NAME)))


def _record(content: bytes) -> bytes:
    """Return a record: the length of the content and the content, each followed by its checksum."""
    length = struct.pack("<Q", len(content))
    return b"".join([length, _checksum(length), content, _checksum(content)])


def _checksum(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))
