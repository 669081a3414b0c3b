"""An attack on two pictures of four pixels, which takes no time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxinv import matching, priors
from jaxinv.attacks.gradient_matching import gradient_matching
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.space import pixels
from jaxinv.target import Batch, Spec

SPEC = Spec((2, 2, 1), 3)
KEY, NUM_STEPS = jax.random.key(0), 17
TRACED = []


def loss(params, batch):
    TRACED.append(None)
    logits = batch.inputs.reshape(len(batch.inputs), -1) @ params["w"] + params["b"]
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.labels[:, None], 1)
    return -picked.mean()


def attack(num_steps=NUM_STEPS):
    fn = objective(gradient(loss), matching.squared())
    return gradient_matching(fn, pixels(SPEC), optax.adam(0.05), num_steps)


def swept(learning_rate, weight):
    fn = objective(
        gradient(loss), matching.squared(), priors.weighted((weight, priors.l2_norm))
    )
    return gradient_matching(fn, pixels(SPEC), optax.adam(learning_rate), NUM_STEPS)


def observation(seed=0, num=2):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    params = jax.tree.map(jnp.float32, params)
    inputs = rng.uniform(size=(num, *SPEC.shape)).astype(np.float32)
    batch = Batch(inputs, np.arange(num) % 3)
    update = jax.jit(gradient(loss))(KEY, params, batch)
    return observe(params, update, num_examples=num, spec=SPEC, labels=batch.labels)
