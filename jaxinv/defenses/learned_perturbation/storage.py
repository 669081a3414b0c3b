"""Perturbers on disk: an `.npz` of plain arrays and of the design as JSON text.

Never through pickle; a file that nobody vouches for is checked by its headers before an
array is allocated: the names, shapes and element types have to be those that its
design makes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxinv.data.archive import array, header, names, open_archive
from jaxinv.data.bounded import check_bytes
from jaxinv.defenses.learned_perturbation.perturber import Design, Perturber, fresh
from jaxinv.errors import InputError

MAX_DESIGN = 4096
"""Bytes of the design's text."""
MAX_SIZE = 4096
"""Of every number of the design: a side, a width."""


def save(perturber: Perturber, path: str | Path) -> None:
    """Writes a perturber as `.npz`.

    Raises:
      InputError: the path does not end in `.npz`.
      OSError: the system refuses to write it.
    """
    path = _npz(path)
    text = json.dumps(asdict(perturber.design)).encode()
    arrays = {name: np.asarray(leaf) for name, leaf in _arrays(perturber).items()}
    arrays["design"] = np.frombuffer(text, np.uint8)
    np.savez(path, allow_pickle=False, **arrays)


def load(path: str | Path) -> Perturber:
    """Reads what `save` wrote.

    Raises:
      InputError: it is not there, damaged, of another design than its arrays, or has
        numbers that are not finite or out of range.
    """
    path = _npz(path)
    try:
        with open_archive(path) as archive:
            return _read(archive)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"perturber {path.name!r}: {reason}") from None
    except InputError as error:
        raise InputError(f"perturber {path.name!r}: {error}") from None


def _read(archive: Any) -> Perturber:
    found = names(archive)
    if "design" not in found:
        raise InputError("holds no design, expected a file of a learned perturbation")
    shape, dtype, size = header(archive, "design")
    if len(shape) != 1 or dtype != np.uint8 or size > MAX_DESIGN:
        raise InputError(
            f"design is {dtype} {shape}, expected at most {MAX_DESIGN} bytes of text"
        )
    design = _design(array(archive, "design").tobytes())
    wanted = _arrays(jax.eval_shape(lambda: fresh(jax.random.key(0), design)))
    if sorted(found) != sorted({*wanted, "design"}):
        odd = sorted(set(found) ^ {*wanted, "design"})
        raise InputError(f"arrays {odd[:4]} are missing or too many for its design")
    headers = {name: header(archive, name) for name in wanted}
    check_bytes(sum(size for *_, size in headers.values()), "all arrays")
    for name, (shape, dtype, _) in headers.items():
        if shape != wanted[name].shape or dtype.newbyteorder("=") != np.float32:
            raise InputError(
                f"{name} is {dtype} {shape}, expected float32 {wanted[name].shape}"
            )
    arrays = {name: array(archive, name).astype(np.float32) for name in wanted}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise InputError(f"{name} has numbers that are not finite")
    if not (arrays["scale"] > 0).all() or arrays["eps"] < 0:
        raise InputError("scale or eps is out of range, expected positive numbers")
    tree = unflatten_dict(arrays, sep="/")
    params, scale, eps = (
        jax.tree.map(jnp.asarray, tree[name]) for name in ("params", "scale", "eps")
    )
    return Perturber(params, scale, eps, design)


def _design(text: bytes) -> Design:
    try:
        given = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InputError("design is no JSON text") from error
    known = {field.name for field in fields(Design)}
    if not isinstance(given, dict) or set(given) != known:
        raise InputError(f"design has not the entries {', '.join(sorted(known))}")
    for name in ("shape", "mean", "std"):
        entry = given[name]
        if not isinstance(entry, list) or not all(map(_is_number, entry)):
            raise InputError(f"design's {name} is no list of numbers")
        given[name] = tuple(entry)
    numbers = [*given["shape"], given["width"], given["latent"], given["noise"]]
    if not all(type(n) is int and 0 <= n <= MAX_SIZE for n in numbers):
        raise InputError(f"design has sizes out of range, expected 0 to {MAX_SIZE}")
    return Design(**given)


def _is_number(entry: Any) -> bool:
    return type(entry) in (int, float) and bool(np.isfinite(float(entry)))


def _arrays(perturber: Perturber) -> dict[str, Any]:
    """Every array by the path of its name."""
    tree = {
        "params": perturber.params,
        "scale": perturber.scale,
        "eps": perturber.eps,
    }
    return flatten_dict(tree, sep="/")


def _npz(path: str | Path) -> Path:
    if Path(path).suffix.lower() != ".npz":
        raise InputError(f"perturber is {str(path)!r}; expected the path of an .npz")
    return Path(path)
