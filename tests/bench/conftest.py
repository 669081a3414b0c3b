"""What holds for the tests of every bench."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick(compiled_quickly):
    """Nothing here is about speed: XLA need not try hard."""
