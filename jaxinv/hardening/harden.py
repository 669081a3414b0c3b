"""Harden: parameters of a defence that make an attack fail at a given cost.

Bilevel optimisation by stochastic gradients: the inner problem is the attack, the outer
one is minus the privacy that is left after it, plus a weight times the loss of utility.
Franceschi et al., "Bilevel Programming for Hyperparameter Optimization and
Meta-Learning", ICML 2018, arXiv 1806.04910. The use for defences of gradients is ours.

What is learned is learned against the attack that was given, with the steps that it was
given. Judge it with others: more steps, restarts, attackers who know the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.errors import InputError
from jaxinv.hardening.constraints import Constraint, unconstrained
from jaxinv.hardening.privacy import PrivacyFn
from jaxinv.options import check_positive
from jaxinv.target import Params

ClientsFn = Callable[[jax.Array], tuple[Params, Any]]
"""`(key) -> (params, batch)`: a client drawn, what it was sent and what it holds."""

UtilityFn = Callable[[jax.Array, Any, Params, Any], jax.Array]
"""`(key, parameters, params, batch) -> scalar`, the harm done; lower is better."""


class HardeningState(NamedTuple):
    """A defence on its way."""

    key: jax.Array
    """Split once a step."""
    theta: Any
    """What the constraint maps to the parameters of the defence."""
    optimizer: Any
    """The optax optimiser's state."""


class Hardening(NamedTuple):
    """The optimisation, to be stepped by hand; functions are pure, none is jitted."""

    init: Callable[[jax.Array, Any], HardeningState]
    """`(key, theta) -> state`; the key is consumed."""
    step: Callable[[HardeningState], tuple[HardeningState, dict[str, jax.Array]]]
    """`(state) -> (state, info)`; info is what `Hardened.history` stacks."""


class Hardened(NamedTuple):
    """A defence that was learned."""

    theta: Any
    """What the constraint maps to the parameters."""
    parameters: Any
    """Of the defence."""
    history: dict[str, jax.Array]
    """`[num_steps]` each, before the step: "objective" (what is minimised), "privacy"
    and "utility" (means over the clients), "finite" (share of clients whose derivative
    was a number; the others are left out), "slope" (norm of the derivative by theta),
    and the means of what the privacy reports, such as "score"."""


def hardening(
    privacy: PrivacyFn,
    clients: ClientsFn,
    *,
    constraint: Constraint = unconstrained,
    optimizer: optax.GradientTransformation,
    num_clients: int = 8,
    at_once: int = 1,
    utility: UtilityFn | None = None,
    weight: float = 1.0,
) -> Hardening:
    """Minimises `weight * utility - privacy` over the parameters of a defence.

    Every step draws new clients. Their derivatives are taken one after the other and
    averaged, so that memory is that of `at_once` clients.

    Args:
      privacy: `jaxinv.hardening.through_steps`, or `at_solution`.
      clients: the distribution that the defence is for.
      constraint: what the parameters may be; with a budget of utility in it, no
        `utility` is needed.
      optimizer: any optax transformation, of theta.
      num_clients: drawn in each step.
      at_once: clients under one vmap; on a CPU 1 is best for convolutions.
      utility: the harm; None where the constraint fixes it.
      weight: of the harm against the privacy.

    Raises:
      InputError: an argument is out of range.
    """
    check_positive("num_clients", num_clients)
    check_positive("at_once", at_once)
    if isinstance(weight, (int, float)) and not weight >= 0:
        raise InputError(f"weight is {weight!r}; expected 0 or more")
    for name, given in (("constraint", constraint), ("optimizer", optimizer)):
        kind = Constraint if name == "constraint" else optax.GradientTransformation
        if not isinstance(given, kind):
            raise InputError(f"{name} is {given!r}; expected a {kind.__name__}")

    def init(key: jax.Array, theta: Any) -> HardeningState:
        theta = jax.tree.map(jnp.asarray, theta)
        return HardeningState(key, theta, optimizer.init(theta))

    def step(state: HardeningState):
        key, now = jax.random.split(state.key)
        parameters, pull = jax.vjp(constraint.apply, state.theta)

        def one_client(key: jax.Array):
            key_client, key_privacy, key_utility = jax.random.split(key, 3)
            params, batch = clients(key_client)
            found = privacy(key_privacy, parameters, params, batch)
            harm, slope = jnp.zeros(()), found.slope
            slope = jax.tree.map(lambda s: -s, slope)
            if utility is not None:
                harm, more = jax.value_and_grad(utility, 1)(
                    key_utility, parameters, params, batch
                )
                slope = jax.tree.map(lambda a, b: a + weight * b, slope, more)
            finite = jnp.isfinite(found.value) & jnp.isfinite(harm)
            for leaf in jax.tree.leaves(slope):
                finite &= jnp.isfinite(leaf).all()
            values = {"privacy": found.value, "utility": harm, **found.info}
            values = jax.tree.map(lambda x: x.astype(jnp.float32), values)
            # A client without a number teaches nothing, and spoils nothing.
            clean = jax.tree.map(lambda x: jnp.where(finite, x, 0), (values, slope))
            return *clean, finite

        size = at_once if at_once > 1 else None
        keys = jax.random.split(now, num_clients)
        values, slopes, finite = jax.lax.map(one_client, keys, batch_size=size)
        count = jnp.maximum(finite.sum(), 1)
        values, slope = jax.tree.map(lambda x: x.sum(0) / count, (values, slopes))
        (slope,) = pull(slope)
        updates, optimizer_state = optimizer.update(slope, state.optimizer, state.theta)
        info = {
            "objective": weight * values["utility"] - values["privacy"],
            "finite": finite.mean(),
            "slope": optax.global_norm(slope),
            **values,
        }
        theta = optax.apply_updates(state.theta, updates)
        return HardeningState(key, theta, optimizer_state), info

    return Hardening(init, step)


def harden(
    key: jax.Array,
    theta: Any,
    privacy: PrivacyFn,
    clients: ClientsFn,
    *,
    num_steps: int,
    constraint: Constraint = unconstrained,
    **options: Any,
) -> Hardened:
    """The whole optimisation as one scan, for jit and vmap over starts.

    Args:
      key: of the clients, the draws of the defence and the attack's starts.
      theta: where to begin; `constraint.invert` finds it for given parameters.
      privacy: see `hardening`.
      clients: see `hardening`.
      num_steps: of the optimiser.
      constraint: see `hardening`.
      **options: of `hardening`.

    Raises:
      InputError: an argument is out of range.
    """
    check_positive("num_steps", num_steps)
    loop = hardening(privacy, clients, constraint=constraint, **options)

    def body(state: HardeningState, _: None):
        return loop.step(state)

    state, history = jax.lax.scan(body, loop.init(key, theta), length=num_steps)
    return Hardened(state.theta, constraint.apply(state.theta), history)
