"""Arrays without names: a list, as Flower hands them on, saved by `np.savez`.

Nothing in such a file says what an array is, so a person says in which order they lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxinv.errors import InputError

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""What a state dict of PyTorch holds beside what is trained."""
_NUMBER = re.compile(r"(arr_)?(\d{1,6})")


def with_names(
    tensors: Mapping[str, np.ndarray], names: Sequence[str], what: str
) -> dict[str, np.ndarray]:
    """The tensors of a file by the names that a person declared for their order.

    Args:
      tensors: as `read_tensors` returns them; a file with names comes back as it is.
      names: of the arrays in their order, such as `list(net.state_dict())`; () where
        nothing was declared. A file of gradients may leave out the buffers among them.
      what: "params" or "update", for messages.

    Raises:
      InputError: the file has no names and none were declared, or not as many.
    """
    found = [_NUMBER.fullmatch(name) for name in tensors]
    places = sorted(int(m[2]) for m in found if m is not None)
    numbered = places == list(range(len(tensors)))
    if numbered and not names and all(m and m[1] for m in found):
        raise InputError(
            f"{what} holds {len(tensors)} arrays without names; expected "
            "client.arrays, their names in that order, such as list(net.state_dict())"
        )
    if not numbered or not names:
        return dict(tensors)
    trained = [n for n in names if n.rpartition(".")[2] not in _BUFFERS]
    for wanted in (names, trained):
        if len(wanted) == len(tensors):
            order = sorted(tensors, key=lambda name: int(name.removeprefix("arr_")))
            return dict(zip(wanted, (tensors[n] for n in order), strict=True))
    besides = f", {len(trained)} of them trained" if len(trained) < len(names) else ""
    raise InputError(
        f"{what} holds {len(tensors)} arrays and client.arrays {len(names)} "
        f"names{besides}; expected a name for each array"
    )
