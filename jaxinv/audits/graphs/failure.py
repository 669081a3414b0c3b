"""Why a graph could not be attacked, for its row of the audit."""

from __future__ import annotations

import traceback
from pathlib import Path

_MOST = 300
"""Characters of an error's text; XLA's go on for pages."""


def described(error: Exception) -> str:
    """An error in one line: its type, its text, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    text = text if len(text) <= _MOST else f"{text[:_MOST]}..."
    return f"{type(error).__name__}: {text}{where}" if text else type(error).__name__
