"""Small models, their updates, and what of an update selective encryption hides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.models import build
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, cross_entropy, from_function


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def logits_of(params, inputs):
    hidden = jnp.tanh(inputs.reshape(len(inputs), -1) @ params["a"]["kernel"])
    hidden = hidden + params["a"]["bias"]
    return hidden @ params["b"]["kernel"] + params["b"]["bias"]


def loss(params, batch):
    return cross_entropy(logits_of(params, batch.inputs), batch.labels)


# So small that every derivative can be taken by differences.
TARGET = from_function(loss, Spec((2, 2, 1), 3))
PARAMS = {
    "a": {"kernel": draw(0, 4, 5), "bias": draw(1, 5)},
    "b": {"kernel": draw(2, 5, 3), "bias": draw(3, 3)},
}
BATCH = Batch(draw(4, 2, 2, 2, 1), jnp.array([2, 0]))
TOTAL = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))

# What attackers are sent updates of.
SPEC = Spec((4, 4, 1), 3)
MLP = build("mlp", SPEC, widths=(8,))
# Compiled once; op by op a gradient takes seconds.
SEND = jax.jit(gradient(MLP.loss))
SEEN = ("labels", "visible")
"""What a server knows that is told where the mask is."""


def hide(seen, mask, value=jnp.nan):
    """The observation with a mask (True = encrypted) and anything there."""
    visible = jax.tree.map(lambda m: ~jnp.asarray(m)[None], mask)
    update = jax.tree.map(
        lambda leaf, v: jnp.where(v, leaf, value), seen.update, visible
    )
    known = dataclasses.replace(seen.known, visible=visible)
    return dataclasses.replace(seen, update=update, known=known)


def largest(update, ratio):
    """The mask of the largest numbers of all, whatever their tensor."""
    sizes = jax.tree.map(lambda leaf: np.abs(leaf[0]), update)
    edge = np.quantile(flat(sizes), 1 - ratio)
    return jax.tree.map(lambda leaf: leaf > edge, sizes)
