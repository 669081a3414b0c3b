"""Compiled programs are kept between runs, in the user's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import jax


def cache_folder() -> Path:
    """Where compiled programs are kept, which need not exist yet.

    `JAX_COMPILATION_CACHE_DIR` where it is set, else `jaxinv` in the platform's cache
    folder (`XDG_CACHE_HOME`, by default `~/.cache`).
    """
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = Path("~").expanduser()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "jaxinv" / "compiled"


def use_cache() -> Path | None:
    """Lets JAX keep what it compiles in `cache_folder()`.

    Returns:
      The folder, or None where none can be written: then everything is compiled anew.
    """
    folder = cache_folder()
    try:
        # Only the user may write there: what is in it is run as code.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # What compiles faster than it is read back is not worth a file.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    # A sweep of many shapes must not fill a disk.
    jax.config.update("jax_compilation_cache_max_size", 2 * 2**30)
    return folder
