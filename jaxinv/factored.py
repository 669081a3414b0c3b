"""Gradients of weight matrices that are never formed.

A dense layer `y = x W` has the gradient `x^T e` by W, with `e` the gradient by y. With
one example that is an outer product: `K + H` numbers that fill `K H`. A match that
asks of a gradient g only for its inner products with itself and with what was
observed, u, needs no more than the factors:

    <g, u> = sum(e * (x u))        |g|^2 = sum((x x^T) * (e e^T))

so the work becomes matrix products with W and u, which all restarts share, and the
memory of a restart that of its activations. Source: Goodfellow, "Efficient per-example
gradient computations", arXiv:1510.01799, whose norms are these; called ghost norms in
differentially private training (Li et al., arXiv:2110.05679).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jaxinv_kernels.jaxpr import bind, evaluate, inlined

from jaxinv.second_order import gradient_map
from jaxinv.target import LossFn

_MOVES = ("reshape", "transpose", "squeeze")
"""What may lie between a parameter and its product: entries move, none changes."""


class Factored:
    """The gradient `rows^T errors` by one weight matrix, as its two factors.

    A leaf to `jax.tree`: it lives between a release and a match and crosses no jit.
    """

    def __init__(
        self,
        rows: jax.Array,
        errors: jax.Array,
        view: Callable[[jax.Array], jax.Array],
        shape: tuple[int, ...],
    ) -> None:
        """Args.

        rows: `[n, K]`, what met the matrix.
        errors: `[n, H]`, the gradient by what came out.
        view: moves the entries of the parameter to the matrix `[K, H]`.
        shape: of the parameter.
        """
        self.rows, self.errors = rows, errors
        self.view, self.shape = view, shape

    def inner(self, leaf: jax.Array) -> jax.Array:
        """`[]`, the inner product with an array of the parameter's shape."""
        return jnp.sum(self.errors * (self.rows @ self.view(leaf)))

    def norm2(self) -> jax.Array:
        """`[]`, the sum of squares."""
        rows, errors = self.rows, self.errors
        return jnp.sum((rows @ rows.T) * (errors @ errors.T))

    def peak(self) -> jax.Array:
        """`[]`, no less than the largest absolute entry that one row contributes."""
        return _peak(self.rows) * _peak(self.errors)

    def over(self, scale: jax.Array) -> Factored:
        """Divided by a scalar, which the derivative takes for a constant."""
        # Rows near 1 and the rest in the errors: products of the two stay in range.
        peak = _peak(self.rows)
        rows = jnp.where(peak > 0, peak, 1.0)
        return Factored(
            self.rows / rows, self.errors * rows / scale, self.view, self.shape
        )

    def dense(self) -> jax.Array:
        """The gradient itself, in the shape of the parameter."""
        matrix = self.rows.T @ self.errors
        like = jax.ShapeDtypeStruct(self.shape, matrix.dtype)
        # The transpose of a permutation is its inverse.
        return jax.linear_transpose(self.view, like)(matrix)[0]


def _peak(x: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0.0))


class _Place(NamedTuple):
    """Where a parameter meets the activations: the only place where it is used."""

    leaf: int
    """Index among the leaves of the parameters."""
    product: int
    """Index of the `dot_general` among the equations."""
    side: int
    """Which operand of it the parameter is, 0 or 1."""
    moves: tuple[int, ...]
    """Indices of the equations from the parameter to that operand."""


def factored_gradient(
    loss: LossFn, *, route: str = "forward"
) -> Callable[[Any, Any], Any]:
    """`(params, batch) -> gradient`, with `Factored` leaves where that costs less.

    A parameter is factored when the loss uses it in one matrix product alone, moved at
    most (reshaped, transposed), and the factors are half its size or less. For the
    rest, and for how it is differentiated, see `gradient_map`.

    Args:
      loss: `(params, batch) -> scalar`.
      route: as in `gradient_map`.
    """

    def gradient(params: Any, batch: Any) -> Any:
        leaves, structure = jax.tree.flatten(params)
        # What jit hides is brought to one level, then read. What a checkpoint hides
        # stays hidden: opened, it would be undone.
        called = jax.make_jaxpr(loss)(params, batch)
        closed = jax.make_jaxpr(lambda *args: inlined(called, args))(
            *leaves, *jax.tree.leaves(batch)
        )
        places = _places(closed.jaxpr, len(leaves))
        if not places:
            return gradient_map(loss, route=route)(params, batch)
        chosen = {place.leaf for place in places}
        dense = {i: x for i, x in enumerate(leaves) if i not in chosen}
        constant = {i: x for i, x in enumerate(leaves) if i in chosen}

        def tapped(params: Any, batch: Any) -> jax.Array:
            dense, taps = params
            constant, batch = batch
            every = {**dense, **constant}
            args = [every[i] for i in range(len(every))] + jax.tree.leaves(batch)
            return _tapped(closed, places, args, taps)

        zeros = [_zeros(closed.jaxpr, place) for place in places]
        found, factors = gradient_map(tapped, route=route)(
            (dense, zeros), (constant, batch)
        )
        for place, (error, rows) in zip(places, factors, strict=True):
            found[place.leaf] = _factored(closed.jaxpr, place, rows, error)
        return jax.tree.unflatten(structure, [found[i] for i in range(len(leaves))])

    return gradient


def _tapped(closed: Any, places: list[_Place], args: Any, taps: Any) -> jax.Array:
    """The loss with two taps at each product, whose gradients are its factors.

    The first is added to what comes out, so that the gradient by it is the error; the
    second is multiplied with what goes in and added to the loss, so that the gradient
    by it is what goes in.
    """
    tapped = {id(closed.jaxpr.eqns[p.product]): i for i, p in enumerate(places)}
    extra = []

    def apply(eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        out = bind(eqn, inputs)
        if id(eqn) not in tapped:
            return out
        i = tapped[id(eqn)]
        error, into = taps[i]
        extra.append(jnp.sum(inputs[1 - places[i].side] * into))
        return [out[0] + error]

    [value] = evaluate(closed.jaxpr, closed.consts, args, apply)
    return value + sum(extra)


def _places(jaxpr: Any, num_leaves: int) -> list[_Place]:
    """The parameters that are worth factoring, each with its product."""
    uses = Counter(v for v in jaxpr.outvars if not hasattr(v, "val"))
    users: dict[Any, int] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for v in eqn.invars:
            if not hasattr(v, "val"):
                uses[v] += 1
                users[v] = i
    places = []
    for leaf, var in enumerate(jaxpr.invars[:num_leaves]):
        moves = []
        while uses[var] == 1 and var in users:
            eqn = jaxpr.eqns[users[var]]
            if eqn.primitive.name not in _MOVES:
                break
            moves.append(users[var])
            var = eqn.outvars[0]
        if uses[var] != 1 or var not in users:
            continue
        eqn = jaxpr.eqns[users[var]]
        if eqn.primitive.name != "dot_general":
            continue
        place = _Place(leaf, users[var], list(eqn.invars).index(var), tuple(moves))
        if _worth_it(jaxpr, place):
            places.append(place)
    return places


def _worth_it(jaxpr: Any, place: _Place) -> bool:
    eqn = jaxpr.eqns[place.product]
    other = eqn.invars[1 - place.side]
    (_, _), (batched, _) = eqn.params["dimension_numbers"]
    # A constant operand is a change of the parameter and no layer.
    if batched or hasattr(other, "val") or other in jaxpr.constvars:
        return False
    (rows, _), (k, h) = _sizes(eqn, place.side)
    return 2 * rows * (k + h) <= k * h


def _sizes(eqn: Any, side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """`(n, K)` of the other operand and `(K, H)` of the parameter's."""
    contracted, _ = eqn.params["dimension_numbers"]
    other, mine = eqn.invars[1 - side].aval, eqn.invars[side].aval
    k = 1
    for axis in contracted[side]:
        k *= mine.shape[axis]
    return (other.size // max(k, 1), k), (k, mine.size // max(k, 1))


def _zeros(jaxpr: Any, place: _Place) -> tuple[jax.Array, jax.Array]:
    eqn = jaxpr.eqns[place.product]
    out, other = eqn.outvars[0].aval, eqn.invars[1 - place.side].aval
    return jnp.zeros(out.shape, out.dtype), jnp.zeros(other.shape, other.dtype)


def _factored(jaxpr: Any, place: _Place, into: jax.Array, error: jax.Array) -> Factored:
    """The factors as matrices; `into` and `error` have the shapes of the operands."""
    eqn = jaxpr.eqns[place.product]
    contracted, _ = eqn.params["dimension_numbers"]
    (n, k), (_, h) = _sizes(eqn, place.side)
    into = jnp.moveaxis(into, contracted[1 - place.side], range(-len(contracted[0]), 0))
    error = error.reshape((n, h) if place.side == 1 else (h, n))
    error = error if place.side == 1 else error.T

    def view(leaf: jax.Array) -> jax.Array:
        for i in place.moves:
            [leaf] = bind(jaxpr.eqns[i], [leaf])
        leaf = jnp.moveaxis(leaf, contracted[place.side], range(len(contracted[0])))
        return leaf.reshape(k, h)

    shape = jaxpr.invars[place.leaf].aval.shape
    return Factored(into.reshape(n, k), error, view, shape)
