"""What the tests of the process kit share."""

import os
import random
import sys

import pytest


@pytest.fixture
def randomness() -> random.Random:
    """Random numbers; a failing test shows their seed, and LOCKSTEP_TEST_SEED repeats it."""
    seed = int(os.environ.get("LOCKSTEP_TEST_SEED", random.randrange(2**32)))
    sys.stdout.write(f"LOCKSTEP_TEST_SEED={seed}\n")
    return random.Random(seed)
