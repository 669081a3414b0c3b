"""Where compiled programs are kept, and that they are found again."""

import os
import subprocess
import sys

import pytest

from jaxinv import cache


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)


def test_the_folder_is_that_of_the_platform_or_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "jaxinv" / "compiled"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"


def test_where_nothing_can_be_written_there_is_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert cache.use_cache() is None


PROGRAM = """
import jax, jax.numpy as jnp, logging, sys
from jaxinv.cache import use_cache
folder = use_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
print(sum("cache_hit" in name for name in hits))
"""


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def run():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert run() == 0
    folder = tmp_path / "jaxinv" / "compiled"
    assert any(folder.iterdir()) and folder.stat().st_mode & 0o077 == 0
    assert run() > 0
