from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ray.launched import Launched, launch


@pytest.fixture(scope="package")
def launched(checkpoint_folder: Path) -> Iterator[Launched]:
    """One for all tests here."""
    with launch(checkpoint_folder) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(launched: Launched) -> httpx.Client:
    return launched.client
