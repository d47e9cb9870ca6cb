"""The run that images and flips are made of, recorded once."""

import asyncio

import pytest

from tests.durability.recording import Run, record


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of every process."""
    return asyncio.run(record(tmp_path_factory.mktemp("durability") / "run"))
