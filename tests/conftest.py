from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from moto.server import ThreadedMotoServer
from pyarrow import fs

from lstmfcn import object_storage, plots
from lstmfcn.checkpoint import Checkpoint
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location
from tests.samples import TINY, best_of, make_channels, make_dataset, make_labels
from tests.servers import free_port, wait_for_port

# What is imported stays: to look through it again and again for garbage takes a tenth of the time.
gc.disable()

# Ray brings HAProxy on Linux only.
collect_ignore = [] if sys.platform == "linux" else ["test_haproxy.py"]

# One thread: with several, tests crawl on a machine whose cores are busy.
torch.set_num_threads(1)

# Without a deadline, since a busy machine is no failure.
settings.register_profile("lstmfcn", deadline=None, max_examples=50)
settings.load_profile("lstmfcn")

# Ray reads these when it is imported, and its processes inherit them.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_ADDRESS"] = "local"  # not a cluster that this machine happens to run


PNG = b"\x89PNG\r\n\x1a\n"
"""Bytes that a PNG file begins with."""


COMPILER_CAME_ALONG = "torch._dynamo" in sys.modules
"""Whether PyTorch's compiler, which takes seconds, was imported with what is imported above."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first what no other test may have imported PyTorch's compiler before."""
    items.sort(key=lambda item: item.name != "test_training_does_not_import_pytorchs_compiler")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not rendered, and composed only for `composed`: both take longer than training. Some tests
    override this.
    """
    monkeypatch.setattr(plots, "_png", lambda _: PNG)
    if "composed" not in request.fixturenames:
        for name in ("learning_curve", "confusion_matrix", "contributions"):
            monkeypatch.setattr(plots, name, lambda *_, **__: PNG)


@pytest.fixture
def composed() -> None:
    """The test's pictures are composed."""


@pytest.fixture(scope="session")
def bucket() -> Iterator[ObjectPath]:
    """A bucket of a server on this machine that speaks S3's protocol."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://{host}:{port}",
        AWS_ACCESS_KEY_ID="anyone",
        AWS_SECRET_ACCESS_KEY="anything",
        AWS_DEFAULT_REGION="us-east-1",
    )
    store = fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=os.environ["AWS_ENDPOINT_URL"])
    store.create_dir("bucket")
    yield ObjectPath.parse("s3://bucket")
    server.stop()


@pytest.fixture(scope="session")
def google_bucket() -> Iterator[ObjectPath]:
    """A bucket, for this process only, of a server on this machine that speaks Google's protocol."""
    port = free_port()
    options = ("--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", "bucket")
    # Not in a thread: pyarrow holds the interpreter's lock while it opens a file of this store.
    server = subprocess.Popen(
        [sys.executable, "-m", "gcp_storage_emulator", "start", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port)
    with pytest.MonkeyPatch.context() as m:
        store = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=f"127.0.0.1:{port}")
        elsewhere = object_storage._filesystem
        m.setattr(
            object_storage, "_filesystem", lambda name: store if name == "gs://bucket" else elsewhere(name)
        )
        yield ObjectPath.parse("gs://bucket")
    server.kill()
    server.wait()


@pytest.fixture(params=["disk", "s3", "gs"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: ObjectPath, google_bucket: ObjectPath
) -> Location:
    """An empty folder on a disk and in each kind of object storage."""
    places: dict[str, Location] = {
        "disk": tmp_path,
        "s3": bucket / tmp_path.name,
        "gs": google_bucket / tmp_path.name,
    }
    return places[request.param]


@pytest.fixture(scope="session")
def trained() -> Checkpoint:
    """A network that tells the two classes of make_dataset apart."""
    return best_of(make_dataset(40), TINY.model_copy(update={"epochs": 60}))


@pytest.fixture(scope="session")
def trained_labels() -> Checkpoint:
    """A network that predicts the labels of make_labels."""
    hyperparameters = TINY.model_copy(
        update={"epochs": 40, "batch_size": 50, "lr": 0.02, "dropout": 0.2, "hidden_size": 8}
    )
    return best_of(make_labels(100), hyperparameters)


@pytest.fixture(scope="session")
def trained_channels() -> Checkpoint:
    """A network that tells the two classes of make_channels apart."""
    hyperparameters = TINY.model_copy(
        update={"epochs": 30, "batch_size": 20, "lr": 0.02, "squeeze_excite": 1}
    )
    return best_of(make_channels(40), hyperparameters, scaling="training-set")


@pytest.fixture(scope="session")
def checkpoint_folder(trained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    trained.save(folder)
    return folder
