"""Which tensor of a file is which leaf of a model.

A file in the model's own names and shapes is taken as it is. A state dict of PyTorch
is paired module by module, for a file may have forgotten their order: what a person
said in a table first, then modules of the same name, then those of the same kind and
shape; where several are alike, in the natural order of their names and of the model's
calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jaxinv.errors import InputError, nearest
from jaxinv.exchange.layout import Layout, Pair
from jaxinv.exchange.modules import (
    ROLES,
    Module,
    Shapes,
    flax_modules,
    natural,
    torch_modules,
)

_COLLECTIONS = {"mean": "batch_stats", "var": "batch_stats"}
_IGNORED = ("num_batches_tracked",)


def pair_up(
    theirs: Shapes,
    ours: Shapes,
    *,
    order: Sequence[str] = (),
    example: tuple[int, ...] = (),
    names: Mapping[str, str] | None = None,
    flatten: Mapping[str, int] | None = None,
) -> Layout:
    """The map from a file's tensors to a model's leaves.

    Args:
      theirs: shape by name of the file's tensors.
      ours: shape by path of the model's leaves, "params/..." and other collections.
      order: paths of the model's modules as it calls them, if known.
      example: shape of an example, `(H, W, C)`.
      names: module of the file to module of the model, from a person.
      flatten: channels that a flatten in front of a linear layer of the file runs
        over, from a person; 1 for a layer without.

    Raises:
      InputError: a tensor or leaf finds no partner, or a table names what is not there.
    """
    if (own := _own_layout(theirs, ours)) is not None:
        return own
    dropped = tuple(n for n in theirs if n.rpartition(".")[2] in _IGNORED)
    kept = {n: s for n, s in theirs.items() if n not in dropped}
    matched = _match(torch_modules(kept), flax_modules(ours, order), dict(names or {}))
    channels = _flattened(matched, order, example, dict(flatten or {}))
    pairs = []
    for there, here, how in matched:
        for part in there.parts:
            form, runs = "same", 1
            if there.kind in ("linear", "conv") and part == "weight":
                form, runs = there.kind, channels.get(there.path, 1)
                form = "flatten" if runs > 1 else form
            role = ROLES.get(there.kind, {}).get(part, part)
            head = _COLLECTIONS.get(role, "params")
            path = "/".join(p for p in (head, here.path, role) if p)
            theirs_name = f"{there.path}.{part}" if there.path else part
            pairs.append(Pair(theirs_name, path, form, runs, how))
    return Layout(tuple(pairs), dropped)


def _own_layout(theirs: Shapes, ours: Shapes) -> Layout | None:
    """The map of a file that has the model's own names, under "params/" or not."""
    short = {
        path.removeprefix("params/") if path.startswith("params/") else path: path
        for path in ours
    }
    pairs = []
    for name in theirs:
        plain = name.replace(".", "/")
        path = plain if plain in ours else short.get(plain)
        if path is None or tuple(ours[path]) != tuple(theirs[name]):
            return None
        pairs.append(Pair(name, path))
    found = {pair.ours for pair in pairs}
    needed = {path for path in ours if path.startswith("params/")}
    return Layout(tuple(pairs)) if needed <= found else None


def _match(
    theirs: list[Module], ours: list[Module], table: dict[str, str]
) -> list[tuple[Module, Module, str]]:
    by_path = {m.path: m for m in ours}
    known = {m.path: m for m in theirs}
    matched: list[tuple[Module, Module, str]] = []
    for name, path in table.items():
        for word, there in ((name, known), (path, by_path)):
            if word not in there:
                raise InputError(f"names holds {word!r}; {nearest(word, there)}")
        matched.append((known.pop(name), by_path.pop(path), "table"))
    for module in [m for m in theirs if m.path in known]:
        twin = next((m for m in by_path.values() if _same(module, m)), None)
        if twin is not None:
            matched.append((known.pop(module.path), by_path.pop(twin.path), "name"))
    left, waiting = list(by_path.values()), list(known.values())
    for module in waiting:
        fitting = [m for m in left if _alike(module, m)]
        rivals = [m for m in known.values() if fitting and _alike(m, fitting[0])]
        if len(rivals) != len(fitting) or not fitting:
            _refuse(module, left or ours, len(rivals), len(fitting))
        # Of those alike the first was paired with others still there to choose from.
        several = sum(_alike(m, fitting[0]) for m in waiting) > 1
        known.pop(module.path)
        left.remove(fitting[0])
        matched.append((module, fitting[0], "order" if several else "shape"))
    if left:
        shapes = ", ".join(str(s) for s in left[0].parts.values())
        raise InputError(
            f"the model's {left[0].path!r} of {shapes} has no partner in the file; "
            "expected the parameters of this model"
        )
    return [(there._replace(kind=here.kind), here, how) for there, here, how in matched]


def _same(there: Module, here: Module) -> bool:
    plain = re.sub(r"[./_]+", "_", here.path), re.sub(r"[./_]+", "_", there.path)
    return plain[0] == plain[1] and _alike(there, here)


def _alike(there: Module, here: Module) -> bool:
    # Nothing but the model says whether a matrix is looked up or multiplied with.
    if here.kind == "embedding":
        there = there._replace(kind="embedding")
    return there.alike() == here.alike()


def _refuse(module: Module, left: list[Module], rivals: int, fitting: int) -> None:
    shapes = ", ".join(f"{n} {s}" for n, s in module.parts.items())
    if fitting:
        raise InputError(
            f"the file has {rivals} modules like {module.path!r} ({shapes}) and the "
            f"model {fitting}; expected the parameters of this model"
        )
    words = "; ".join(
        f"{m.path} ({', '.join(f'{n} {s}' for n, s in m.parts.items())})"
        for m in left[:2]
    )
    raise InputError(
        f"the file's {module.path!r} ({shapes}) fits no module of the model, whose "
        f"next ones would be {words} in PyTorch's layout"
    )


def _flattened(
    matched: list[tuple[Module, Module, str]],
    order: Sequence[str],
    example: tuple[int, ...],
    table: dict[str, int],
) -> dict[str, int]:
    """Channels by module of the file, of linear layers behind a flatten."""
    linear = [there for there, _, _ in matched if there.kind == "linear"]
    for name in table:
        if name not in {m.path for m in linear}:
            known = [m.path for m in linear]
            raise InputError(f"flatten holds {name!r}; {nearest(name, known)}")
    place = {path: index for index, path in enumerate(order)}
    called = sorted(
        matched, key=lambda m: (place.get(m[1].path, len(place)), natural(m[0].path))
    )
    found, channels = {}, example[-1] if len(example) > 1 else 1
    for there, _, _ in called:
        if there.kind == "conv":
            channels = there.parts["weight"][0]
        elif there.kind == "linear":
            inputs, given = there.parts["weight"][1], table.get(there.path)
            runs = channels if given is None else given
            if runs < 1 or inputs % runs:
                raise InputError(
                    f"flatten: {there.path!r} has {inputs} inputs and the layer before "
                    f"it {runs} channels; expected a divisor, such as "
                    f'[flatten] "{there.path}" = 1 where nothing is flattened'
                )
            if 1 < runs < inputs:
                found[there.path] = runs
            # Layers behind it take what it gives, one number a channel.
            channels = 1
    return found
