"""A graph that could not be attacked: a row of the audit, with the reason."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np

from jaxinv.attacks.grain import Certificate, Recovered

_MOST = 300
"""Characters of an error's text; XLA's go on for pages."""


def failed(stage: str, reason: str) -> Recovered:
    """The result of an attack that did not come to one."""
    return Recovered(
        certificate=Certificate.GAVE_UP,
        graph=None,
        graphs=(),
        complete=False,
        nodes_up_to=0,
        distance=np.inf,
        stage=stage,
        reason=reason,
        seconds={},
        counts={},
    )


def described(error: Exception) -> str:
    """An error in one line: its type, its text, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    text = text if len(text) <= _MOST else f"{text[:_MOST]}..."
    return f"{type(error).__name__}: {text}{where}" if text else type(error).__name__
