"""Fixtures of the API server's tests: one PKI for all, a server for each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.api_harness import Harness, harness


@pytest.fixture(scope="session")
def api_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates of all tests are; the store is in memory."""
    return tmp_path_factory.mktemp("apiserver")


@pytest.fixture
async def api(api_folder: Path) -> AsyncIterator[Harness]:
    """A fresh API server over an empty store in memory."""
    async with harness(api_folder) as made:
        yield made
