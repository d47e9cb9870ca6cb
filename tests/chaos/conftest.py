"""One network for all kill tests of a module, made anew after a case that failed."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.arenas import Arenas


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arenas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arenas]:
    made = Arenas(tmp_path_factory.mktemp("networks"))
    yield made
    await made.close()
