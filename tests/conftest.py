from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from moto.server import ThreadedMotoServer
from pyarrow import fs

from lstmfcn.checkpoint import Checkpoint
from lstmfcn.object_storage import ObjectPath
from lstmfcn.storage import Location
from lstmfcn.training import fit
from tests.samples import TINY, make_dataset

# One thread: with several, tests crawl on a machine whose cores are busy.
torch.set_num_threads(1)

# A busy machine is no failure.
settings.register_profile("lstmfcn", deadline=None, max_examples=50)
settings.load_profile("lstmfcn")

# Read when Ray is imported, and inherited by its processes.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def bucket() -> Iterator[ObjectPath]:
    """Of a server on this machine that speaks S3's protocol."""
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


@pytest.fixture(params=["disk", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path, bucket: ObjectPath) -> Location:
    """An empty folder on a disk and one in object storage."""
    return tmp_path if request.param == "disk" else bucket / tmp_path.name


@pytest.fixture(scope="session")
def trained() -> Checkpoint:
    """A network that tells the two classes of make_dataset apart."""
    epochs = fit(make_dataset(40), hyperparameters=TINY.model_copy(update={"epochs": 60}))
    return [epoch.checkpoint for epoch in epochs if epoch.checkpoint is not None][-1]


@pytest.fixture(scope="session")
def checkpoint_folder(trained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    trained.save(folder)
    return folder
