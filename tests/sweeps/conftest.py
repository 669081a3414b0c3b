"""Sweeps here repeat each other, as a sweep that is gone on with does."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(scope="module", autouse=True)
def programs_kept(tmp_path_factory):
    """What one test compiled another finds, as in the user's cache folder."""
    before = [getattr(jax.config, name) for name in NAMES]
    values = (str(tmp_path_factory.mktemp("cache")), 0.0)
    for name, value in zip(NAMES, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in zip(NAMES, before, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
