"""What holds for the tests of every bench."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly():
    """Most of the time of these tests is XLA's, which need not try hard here."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
