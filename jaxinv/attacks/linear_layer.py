"""Inputs of a dense layer, read off the ratio of its kernel's and bias's gradients.

Unit r of a dense layer with bias has `dW[:, r] = sum_n d_nr x_n` and
`db[r] = sum_n d_nr`. A unit that only one example reaches gives it away exactly, as
`dW[:, r] / db[r]`. Phong, Aono, Hayashi, Wang, Moriai, "Privacy-Preserving Deep
Learning via Additively Homomorphic Encryption", IEEE TIFS 2018 (eprint 2017/715);
Geiping et al., "Inverting Gradients", NeurIPS 2020 (arXiv 2003.14053), prop. 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.base import AttackFn, Reconstruction, Status
from jaxinv.attacks.dense_inputs import (
    by_pixels,
    cluster,
    plain_part,
    unexplained,
)
from jaxinv.attacks.encrypted import visible_distance
from jaxinv.attacks.evidence import gradient_distance
from jaxinv.errors import InputError
from jaxinv.layers import Dense, dense_layers
from jaxinv.observation import Observation, exact_gradient
from jaxinv.release import gradient
from jaxinv.target import Batch, Params, Spec, Target


def linear_layer(
    target: Target,
    *,
    layer: str | Sequence[str] | None = None,
    min_support: int = 2,
    tolerance: float = 2e-3,
    box_tolerance: float = 1e-2,
) -> AttackFn:
    """Reads the batch off the first dense layer of a model.

    With one example every unit gives the same ratio. With more, each unit's ratio is
    an example or a mixture of those that reach it; two units that agree on an
    example do so exactly, two mixtures only by accident. So ratios are grouped where
    they coincide and lie in the box of pixels, and the N largest groups are taken.
    Labels follow from the model: for each recovered input, the one whose gradient at
    the group's bias entries is what was observed.

    Of an update that is hidden in part (`Knowledge.visible`), a batch of one is read
    number by number, each from the units that show it beside their bias
    (`jaxinv.attacks.encrypted.read_pixels`); of a larger batch those units count whose
    column of the kernel and entry of the bias are plain.

    Args:
      target: the model, differentiated to find labels and to score.
      layer: path of the dense layer, joined with "/" or as a sequence; None takes
        the one with `prod(spec.shape)` inputs that nothing trained precedes.
      min_support: units that have to agree for an input to count as found, for a
        batch of several; 1 accepts every ratio in the box, mixtures included.
      tolerance: largest angle, in radians, between `(dW[:, r], db[r])` of units
        that agree.
      box_tolerance: how far outside the box a pixel may lie, in units of its width.

    Returns:
      An AttackFn. The inputs found come first, by support; the rest are zeros with
      label 0 and the status is `GAVE_UP`, as it is where some numbers of an input stay
      unknown. The score is the relative squared distance of the guess's gradient to the
      update. Stats: "support" and "known" `[N]` as in `dense_inputs.Clusters`,
      "num_found" `[]`, and "residual" `[]`, what least squares on the recovered inputs
      leaves of the layer's gradient, relative.

    Raises:
      InputError: an option is out of range; when called, there is no such layer or
        it has no bias.
    """
    if min_support < 1:
        raise InputError(f"min_support is {min_support}; expected 1 or more")
    if not tolerance > 0 or not box_tolerance >= 0:
        raise InputError(
            f"tolerance is {tolerance} and box_tolerance {box_tolerance}; expected "
            "positive angles and a width of 0 or more"
        )

    def attack_fn(key: jax.Array, observation: Observation) -> Reconstruction:
        num, spec = observation.num_examples, observation.spec
        params, _ = observation.round(0)
        update = exact_gradient(observation, who="linear_layer", partial=True)
        path, dense = first_dense(update, spec, layer)
        shown = observation.shown(0)
        low, high = spec.box()
        margin = box_tolerance * (high - low)
        size = dense.kernel.shape[0]
        edges = (low - margin, high + margin)
        low, high = (jnp.broadcast_to(e, spec.shape).reshape(size) for e in edges)
        plain = None if shown is None else dense_layers(shown)[path]
        if plain is not None:
            dense = plain_part(dense, plain, whole_units=num > 1)
        if plain is not None and num == 1:
            found = by_pixels(dense, plain, (low, high))
        else:
            found = cluster(dense, num, (low, high), tolerance=tolerance)
        needed = min_support if num > 1 else 1
        good = found.support >= needed
        inputs = jnp.where(good[:, None], found.inputs, 0.0)
        inputs = inputs.reshape(num, *spec.shape)
        labels = _labels(target, key, params, path, dense, inputs, found.members)
        batch = Batch(inputs, jnp.where(good, labels, 0).astype(jnp.int32))
        if shown is None:
            score = gradient_distance(target, key, params, update, batch)
        else:
            score = visible_distance(target, key, params, update, batch, shown)
        whole = (good & (found.known == 1)).all()
        status = jnp.where(whole, Status.OK, Status.GAVE_UP)
        finite = jnp.isfinite(score)
        status = jnp.where(finite, status, Status.DIVERGED).astype(jnp.int32)
        stats = {
            "support": found.support,
            "known": found.known,
            "num_found": good.sum(),
            "residual": unexplained(
                dense, jnp.where(good[:, None], found.inputs, 0.0), plain
            ),
        }
        return Reconstruction(batch, jnp.where(finite, score, jnp.inf), status, stats)

    return attack_fn


def first_dense(
    update: object, spec: Spec, layer: str | Sequence[str] | None
) -> tuple[str, Dense]:
    """The dense layer that sees the input, by name or by its shape.

    Raises:
      InputError: there is none, there are several, or it has no bias.
    """
    layers, size = dense_layers(update), int(np.prod(spec.shape))
    if layer is not None:
        path = layer if isinstance(layer, str) else "/".join(layer)
        if path not in layers:
            raise InputError(
                f"layer is {path!r}; expected the path of a dense layer: one of "
                f"{', '.join(sorted(layers)) or 'none'}"
            )
        if layers[path].kernel.shape[0] != size:
            raise InputError(
                f"layer {path!r} has {layers[path].kernel.shape[0]} inputs; expected "
                f"{size} for examples of shape {spec.shape}"
            )
    else:
        paths = sorted(p for p, d in layers.items() if d.kernel.shape[0] == size)
        paths = [p for p in paths if not _preceded(update, spec, p)]
        if len(paths) != 1:
            raise InputError(
                f"dense layers that see the {size} numbers of an example are "
                f"{', '.join(paths) or 'none'}; expected exactly one, set layer"
            )
        path = paths[0]
    if layers[path].bias is None:
        raise InputError(
            f"layer {path!r} has no bias; the ratio of gradients needs one"
        )
    return path, layers[path]


def _preceded(update: object, spec: Spec, path: str) -> bool:
    """Whether something trained is known to come before a layer."""
    if path not in spec.layers:
        return False
    leaves = jax.tree_util.tree_flatten_with_path(update)[0]
    names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in leaves]
    owners = {name.removesuffix("/value").rpartition("/")[0] for name in names}
    return any(before in owners for before in spec.layers[: spec.layers.index(path)])


def _labels(
    target: Target,
    key: jax.Array,
    params: Params,
    path: str,
    dense: Dense,
    inputs: jax.Array,
    members: jax.Array,
) -> jax.Array:
    """`[N]`, for each input the label that explains its own units' bias gradient."""
    release, num = gradient(target.loss), inputs.shape[0]
    bias = dense.bias
    assert bias is not None

    def distance(one: jax.Array, own: jax.Array, label: jax.Array) -> jax.Array:
        guess = dense_layers(release(key, params, Batch(one[None], label[None])))
        guessed = guess[path].bias
        assert guessed is not None
        # The loss is a mean over the batch, so each example has a share of 1 / N.
        return jnp.sum(jnp.where(own, guessed / num - bias, 0.0) ** 2)

    def by_label(label: jax.Array) -> jax.Array:
        return jax.vmap(distance, in_axes=(0, 0, None))(inputs, members, label)

    table = jax.lax.map(by_label, jnp.arange(target.spec.num_classes, dtype=jnp.int32))
    return jnp.argmin(table, axis=0)
