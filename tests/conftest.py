"""What holds for every test."""

import gc

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped():
    """Each compiled program maps memory of its own, some hundred times in a test.

    Linux gives a process 65,530 maps; beyond them no thread can start, and PyTorch
    aborts. So what a module compiled goes when it ends.
    """
    yield
    jax.clear_caches()
    gc.collect()
