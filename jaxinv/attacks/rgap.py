"""R-GAP: one example from its gradient, layer by layer, by linear systems.

Zhu and Blaschko, "R-GAP: Recursive Gradient Attack on Privacy", ICLR 2021,
arXiv 2010.07733. Starting from the output layer, whose bias gradient is the gradient
at the logits, each layer's input solves two linear systems at once: the layer's
forward pass (weight constraints) and its weight gradient (gradient constraints).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxinv.attacks.base import AttackFn, Reconstruction, Status
from jaxinv.attacks.bilinear import Bilinear, Solved, constraints, layout, solve
from jaxinv.attacks.evidence import gradient_distance
from jaxinv.errors import InputError
from jaxinv.observation import Observation, exact_gradient
from jaxinv.release import trained
from jaxinv.target import Batch, ChainLayer, Target


class Activation(NamedTuple):
    """An invertible activation, seen from its output `a`."""

    inverse: Callable[[jax.Array], jax.Array]
    """`(a) -> z`, with a moved into the open range first."""
    slope: Callable[[jax.Array], jax.Array]
    """`(a) -> act'(z)`."""


def _inside(a: jax.Array, low: float) -> jax.Array:
    edge = jnp.finfo(jnp.float32).eps  # what the observed gradient resolves
    return jnp.clip(a, low + edge, 1.0 - edge)


_ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda a: a, jnp.ones_like),
    "sigmoid": Activation(
        lambda a: jnp.log(_inside(a, 0.0)) - jnp.log1p(-_inside(a, 0.0)),
        lambda a: _inside(a, 0.0) * (1.0 - _inside(a, 0.0)),
    ),
    "tanh": Activation(
        lambda a: jnp.arctanh(_inside(a, -1.0)), lambda a: 1.0 - _inside(a, -1.0) ** 2
    ),
    "leaky_relu": Activation(
        lambda a: jnp.where(a > 0, a, a / 0.2), lambda a: jnp.where(a > 0, 1.0, 0.2)
    ),
}


def rgap(target: Target, *, rank_tolerance: float = 1e-5) -> AttackFn:
    """The recursive attack on a chain of invertible layers, for a batch of one.

    The systems are solved in float64 whatever the caller's precision. Each forward
    equation is weighted by its activation's slope: where a sigmoid saturates,
    inverting it says little. Memory is that of `[n, n]` float64 for n numbers in an
    image or in a hidden layer.

    Args:
      target: with `chain`, whose last layer is dense with a bias. (The paper's
        bias-free binary classifier is not covered.)
      rank_tolerance: a system whose smallest singular value, over its largest, is
        below this does not determine its unknowns. At 1e-5 the rounding of a
        float32 gradient is already a hundredth of the guess.

    Returns:
      An AttackFn. The score is the squared distance of the guess's gradient over the
      squared norm of the update. Status is `GAVE_UP` where a system had fewer
      equations than unknowns or too small a singular value; the guess is then one
      of many that explain the update. So it is, with an infinite score, where any of
      the chain's gradients is encrypted (`Knowledge.visible`): each layer's system
      needs them all. Per layer, input first
      (1 and 0 for dense layers): "conditions" `[L]`, smallest over largest singular
      value, 0 where there are too few equations, and "residuals" `[L]`, what the
      solution leaves of the right-hand side, relative.

    Raises:
      InputError: the target has no chain or it does not end in a dense layer with a
        bias; when called, the batch is not one example or the layers do not fit.
    """
    chain = target.chain
    if not chain:
        raise InputError(
            "target.chain is None; R-GAP expects a model that is a plain chain of "
            "layers with invertible activations, such as lenet"
        )
    for layer in chain:
        if layer.activation not in _ACTIVATIONS:
            raise InputError(
                f"activation of layer {'/'.join(layer.path)!r} is "
                f"{layer.activation!r}; expected one of {', '.join(_ACTIVATIONS)}"
            )
    if chain[-1].strides is not None or chain[-1].activation != "identity":
        raise InputError(
            f"last layer {'/'.join(chain[-1].path)!r} of target.chain is not dense "
            "with activation 'identity'; R-GAP starts from the logits"
        )
    if rank_tolerance < 0:
        raise InputError(f"rank_tolerance is {rank_tolerance}; expected 0 or more")

    def attack_fn(key: jax.Array, observation: Observation) -> Reconstruction:
        if observation.num_examples != 1:
            raise InputError(
                f"num_examples is {observation.num_examples}; expected 1, R-GAP "
                "recovers a single example"
            )
        params, _ = observation.round(0)
        update = exact_gradient(observation, who="rgap", partial=True)
        weights = [_leaves(trained(params), layer) for layer in chain]
        grads = [_leaves(update, layer) for layer in chain]
        if grads[-1][1] is None:
            raise InputError(
                f"output layer {'/'.join(chain[-1].path)!r} has no bias; R-GAP reads "
                "the gradient at the logits from it (the paper's bias-free binary "
                "case is not covered)"
            )
        layers = layout(chain, [w for w, _ in weights], observation.spec.shape)
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (weights, grads))
            x, solved = _peel(chain, layers, *wide)
        dtype = grads[-1][1].dtype
        label = jnp.argmin(grads[-1][1])[None].astype(jnp.int32)
        inputs = x.astype(dtype).reshape((1, *observation.spec.shape))
        batch = Batch(inputs, label)
        score = gradient_distance(target, key, params, update, batch)
        conditions = jnp.stack([s.condition for s in solved]).astype(dtype)
        residuals = jnp.stack([s.residual for s in solved]).astype(dtype)
        finite = jnp.isfinite(inputs).all() & jnp.isfinite(score)
        determined = (conditions > rank_tolerance).all()
        status = jnp.where(determined, Status.OK, Status.GAVE_UP)
        status = jnp.where(finite, status, Status.DIVERGED).astype(jnp.int32)
        stats = {"conditions": conditions, "residuals": residuals}
        shown = observation.shown(0)
        if shown is not None:
            whole = _all_shown(shown, chain)
            finite, status = finite & whole, jnp.where(whole, status, Status.GAVE_UP)
        return Reconstruction(batch, jnp.where(finite, score, jnp.inf), status, stats)

    return attack_fn


def _all_shown(shown: Any, chain: tuple[ChainLayer, ...]) -> jax.Array:
    """`[]` bool, whether all of the chain's gradients came in the clear."""
    leaves = jax.tree.leaves([_leaves(shown, layer) for layer in chain])
    return jnp.stack([leaf.all() for leaf in leaves]).all()


def _peel(
    chain: tuple[ChainLayer, ...],
    layers: list[Bilinear],
    weights: list[tuple[jax.Array, jax.Array | None]],
    grads: list[tuple[jax.Array, jax.Array | None]],
) -> tuple[jax.Array, list[Solved]]:
    """The recursion, output layer first. Returns the input `[n]`, stats input first."""
    solved = []
    # The output layer reads its delta off its bias; nothing comes from above.
    x, delta = jnp.zeros(weights[-1][0].shape[-1]), grads[-1][1]
    assert delta is not None
    tiny = jnp.finfo(delta.dtype).tiny
    for layer, form, (kernel, bias), (d_kernel, d_bias) in reversed(
        list(zip(chain, layers, weights, grads, strict=True))
    ):
        kernel = kernel.reshape(form.index.shape[1], -1)
        d_kernel = d_kernel.reshape(kernel.shape)
        activation, a = _ACTIVATIONS[layer.activation], x.reshape(-1, kernel.shape[1])
        slope, target_z = activation.slope(a), activation.inverse(a)
        delta = delta.reshape(a.shape) * slope
        if layer.strides is None:
            # The bias gradient is the delta itself, free of what came through above.
            delta = delta if d_bias is None else d_bias[None]
            x = d_kernel @ delta[0] / jnp.maximum(jnp.sum(delta**2), tiny)
            left = jnp.linalg.norm(d_kernel - x[:, None] * delta)
            size = jnp.maximum(jnp.linalg.norm(d_kernel), tiny)
            solved.append(Solved(jnp.ones(()), left / size))
        else:
            target_z = target_z if bias is None else target_z - bias
            system = constraints(form, kernel, d_kernel, delta, slope, target_z)
            x, info = solve(system)
            solved.append(info)
        # The pull-back of the layer: every copy of an input collects its share.
        shares = jnp.zeros(form.num_inputs + 1).at[form.index].add(delta @ kernel.T)
        delta = shares[:-1]
    return x, solved[::-1]


def _leaves(tree: Any, layer: ChainLayer) -> tuple[jax.Array, jax.Array | None]:
    for name in layer.path:
        if name not in tree:
            raise InputError(
                f"layer {'/'.join(layer.path)!r} of target.chain is not in the "
                f"parameters; expected one of {', '.join(map(str, tree))}"
            )
        tree = tree[name]
    return tree["kernel"], tree.get("bias")
