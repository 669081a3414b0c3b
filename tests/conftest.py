"""What tests share."""

import jax
import pytest


@pytest.fixture(scope="module")
def compiled_quickly():
    """Where most of a test's time is XLA's, which need not try hard there."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def programs_let_go():
    """A process can map only so many compiled programs; each file has its own."""
    yield
    jax.clear_caches()
