"""What might deserve a kernel: the plain form of each operation, and other plain ones.

All forms of a candidate compute the same, from arguments laid out as each likes them.
The bytes are the least that any program moves (each input read once, each output
written once, an input twice where a sum over all of it must be known before the
output begins), the operations those of the arithmetic, a transcendental function
counted as one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinv import matching, models, priors
from jaxinv.release import trained
from jaxinv.target import Batch, Spec

FLOAT = 4
"""Bytes."""
DECAY, SLOPE = 0.9, 5.0
"""Of the neuron's potential in a step; of the surrogate, in units of the threshold."""


class Form(NamedTuple):
    """One way to compute it."""

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    flops: float | None = None
    """Where they are not those of the candidate."""
    equal: bool = True
    """Whether it may stand for the plain form on all inputs; see `Candidate.note`."""


class Candidate(NamedTuple):
    """An operation that a kernel could be written for."""

    name: str
    shape: str
    forms: list[Form]
    """The plain form first; results are equal up to the order of their entries."""
    least_bytes: float
    flops: float
    note: str = ""
    """What forms that are not equal lose."""


def normal(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> jax.Array:
    return scale * jax.random.normal(jax.random.key(seed), shape)


def match(shapes: Any, name: str = "match") -> Candidate:
    """The cosine of two updates and its gradient by the first.

    Args:
      shapes: of the update, a tree.
      name: of the candidate.
    """
    leaves, structure = jax.tree.flatten(shapes)
    trees = tuple(
        structure.unflatten(
            [normal(100 * i + j, x.shape, 1e-3) for j, x in enumerate(leaves)]
        )
        for i in range(2)
    )
    num = sum(x.size for x in leaves)
    cosine = matching.cosine()

    def vector(g: jax.Array, u: jax.Array) -> Any:
        return _by_formula([g @ u, g @ g, u @ u], g, u)

    def unguarded(guess: Any, observed: Any) -> jax.Array:
        inner, guess2, observed2 = _three_sums(guess, observed)
        return 1.0 - inner * lax.rsqrt(guess2) * lax.rsqrt(observed2)

    def written_out(guess: Any, observed: Any) -> Any:
        return _by_formula(_three_sums(guess, observed), guess, observed)

    def one_pass(guess: Any, observed: Any) -> Any:
        return _by_formula(_sums_in_one_pass(guess, observed), guess, observed)

    flat = tuple(
        jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for tree in trees
    )
    return Candidate(
        name,
        f"{num} numbers in {len(leaves)} leaves",
        [
            Form("jaxinv.matching.cosine", jax.value_and_grad(cosine), trees),
            Form(
                "without its guard", jax.value_and_grad(unguarded), trees, None, False
            ),
            Form("gradient written out", written_out, trees, None, False),
            Form("the same, sums in one pass", one_pass, trees, None, False),
            Form("the same, one vector", vector, flat, None, False),
        ],
        # Both are read for the sums and again for the gradient, which is written.
        least_bytes=5 * FLOAT * num,
        flops=9 * num,
        note="squares of large entries overflow, of small ones vanish",
    )


def _three_sums(guess: Any, observed: Any) -> list[Any]:
    """`<g, u>, |g|^2, |u|^2`, each a sum over the leaves."""
    pairs = list(zip(jax.tree.leaves(guess), jax.tree.leaves(observed), strict=True))
    lists = pairs, [(g, g) for g, _ in pairs], [(u, u) for _, u in pairs]
    return [sum(jnp.vdot(a, b) for a, b in each) for each in lists]


def _sums_in_one_pass(guess: Any, observed: Any) -> list[Any]:
    """The same, where each leaf is read once."""

    def sums(g: jax.Array, u: jax.Array) -> Any:
        return lax.reduce(
            (g * u, g * g, u * u),
            (np.float32(0),) * 3,
            lambda a, b: tuple(map(lax.add, a, b)),
            tuple(range(g.ndim)),
        )

    leaves: Any = map(sums, jax.tree.leaves(guess), jax.tree.leaves(observed))
    return [sum(each) for each in zip(*leaves, strict=True)]


def _by_formula(sums: list[Any], g: Any, u: Any) -> Any:
    """One minus the cosine, and its gradient by the guess."""
    inner, guess2, observed2 = sums
    over = lax.rsqrt(guess2) * lax.rsqrt(observed2)
    along = inner * over / guess2
    slope = jax.tree.map(lambda g, u: along * g - over * u, g, u)
    return 1.0 - inner * over, slope


def update_shapes(tiny: bool) -> Any:
    """Shapes of the update of a ResNet-18 for CIFAR-10; tiny: of a small MLP."""
    model, options = ("mlp", {"widths": (8,)}) if tiny else ("resnet18", {})
    init = models.build(model, Spec((32, 32, 3), 10), **options).init
    return trained(jax.eval_shape(init, jax.random.key(0)))


def total_variation(shape: tuple[int, ...], name: str = "total variation") -> Candidate:
    """Total variation and its gradient.

    Args:
      shape: `[R, N, H, W, C]`, a value for each of R restarts.
      name: of the candidate.
    """
    prior: Any = priors.total_variation()
    # Of multiples of a 64th, so that neighbours tie as they do in 8-bit pictures.
    x = jnp.round(64 * normal(0, shape)) / 64
    num, each = x.size, x[0].size

    no_labels: Any = None

    def plain(x: jax.Array) -> Any:
        return jax.vmap(jax.value_and_grad(lambda x: prior(None, Batch(x, no_labels))))(
            x
        )

    def signs(x: jax.Array) -> Any:
        value, slope = jnp.zeros(len(x)), jnp.zeros_like(x)
        for axis in (2, 3):
            step = jnp.diff(x, axis=axis)
            value += jnp.abs(step).sum((1, 2, 3, 4))
            # At a tie JAX takes the derivative from the right.
            sign = jnp.where(step >= 0, 1.0, -1.0)
            before, after = ([(0, 0)] * 5 for _ in range(2))
            before[axis], after[axis] = (1, 0), (0, 1)
            slope += jnp.pad(sign, before) - jnp.pad(sign, after)
        return value / each, slope / each

    return Candidate(
        name,
        "x".join(map(str, shape)),
        [
            Form("jaxinv.priors.total_variation", plain, (x,)),
            Form("gradient by signs", signs, (x,)),
        ],
        least_bytes=2 * FLOAT * num,
        flops=11 * num,
    )


def span(num: int, dim: int, rank: int, block: int = 1024) -> Candidate:
    """Distances `[num]` of candidates `[num, dim]` from a span of `rank` dimensions."""
    basis, _ = jnp.linalg.qr(normal(0, (dim, rank)))
    x = normal(1, (num, dim))

    def residual(x: jax.Array, basis: jax.Array) -> jax.Array:
        rest = x - (x @ basis) @ basis.T
        return jnp.sqrt(jnp.sum(rest * rest, -1))

    def blocks(x: jax.Array, basis: jax.Array) -> jax.Array:
        rows = min(block, num)
        parts = x.reshape(-1, rows, dim)
        return lax.map(lambda x: residual(x, basis), parts).ravel()

    def pythagoras(x: jax.Array, basis: jax.Array) -> jax.Array:
        inside = x @ basis
        squares = jnp.sum(x * x, -1) - jnp.sum(inside * inside, -1)
        return jnp.sqrt(jnp.maximum(squares, 0.0))

    # Candidates of the span itself: what each form takes for the distance from it.
    within = normal(2, (64, rank)) @ basis.T
    norms = jnp.linalg.norm(within, axis=1)
    floor, other = (
        float(jnp.max(jax.jit(form)(within, basis) / norms))
        for form in (residual, pythagoras)
    )
    return Candidate(
        "span residual",
        f"{num}x{dim}, rank {rank}",
        [
            Form("x - (x Q) Q^T", residual, (x, basis)),
            Form(f"the same in blocks of {min(block, num)}", blocks, (x, basis)),
            Form(
                "|x|^2 - |x Q|^2",
                pythagoras,
                (x, basis),
                flops=num * dim * (2 * rank + 4),
                equal=False,
            ),
        ],
        least_bytes=FLOAT * (num * dim + dim * rank + num),
        flops=num * dim * (4 * rank + 3),
        note=f"a candidate of the span is {floor:.1g} of its norm from it by the "
        f"residual, {other:.1g} by the squares",
    )


def spikes(steps: int, shape: tuple[int, int], *, slope: bool) -> Candidate:
    """Leaky integrate-and-fire neurons over time, and a gradient by their currents.

    `u_t = b v_(t-1) + i_t`, `s_t = u_t > 1`, `v_t = u_t - s_t`; the derivative of the
    spike is that of `sigmoid(SLOPE (u - 1))`, in the reset as well.

    Args:
      steps: T.
      shape: `[R, K]`, restarts and neurons.
      slope: whether the gradient of a weighted sum of all spikes is computed too.
    """
    current = normal(0, (steps, *shape), 0.5)
    weight = normal(1, current.shape)

    def spike(u: jax.Array) -> jax.Array:
        smooth = jax.nn.sigmoid(SLOPE * (u - 1.0))
        return smooth + lax.stop_gradient((u > 1.0).astype(u.dtype) - smooth)

    def forward(current: jax.Array, unroll: int = 1) -> jax.Array:
        def step(v: jax.Array, i: jax.Array) -> Any:
            u = DECAY * v + i
            s = spike(u) if slope else (u > 1.0).astype(u.dtype)
            return u - s, s

        return lax.scan(step, jnp.zeros(shape), current, unroll=unroll)[1]

    def both(current: jax.Array, weight: jax.Array, unroll: int = 1) -> Any:
        out, pull = jax.vjp(lambda i: forward(i, unroll), current)
        return out, pull(weight)[0]

    def written_out(current: jax.Array, weight: jax.Array, parallel: bool) -> Any:
        def step(v: jax.Array, i: jax.Array) -> Any:
            u = DECAY * v + i
            s = (u > 1.0).astype(u.dtype)
            return u - s, (s, u)

        _, (out, u) = lax.scan(step, jnp.zeros(shape), current)
        smooth = jax.nn.sigmoid(SLOPE * (u - 1.0))
        bump = SLOPE * smooth * (1.0 - smooth)
        # Backwards in time: g_t = bump_t w_t + b (1 - bump_t) g_(t+1).
        add, keep = bump * weight, DECAY * (1.0 - bump)
        if parallel:

            def join(a: Any, b: Any) -> Any:
                return a[0] * b[0], b[0] * a[1] + b[1]

            return out, lax.associative_scan(join, (keep, add), reverse=True)[1]

        def back(g: jax.Array, at: Any) -> Any:
            g = at[0] * g + at[1]
            return g, g

        return out, lax.scan(back, jnp.zeros(shape), (keep, add), reverse=True)[1]

    def unrolled(by: int) -> Form:
        run = functools.partial(both if slope else forward, unroll=by)
        return Form(f"lax.scan, unroll={by}" if by > 1 else "lax.scan", run, args)

    args: tuple[Any, ...] = (current, weight) if slope else (current,)
    forms = [unrolled(by) for by in (1, 5, steps)]
    if slope:
        forms += [
            Form(
                "gradient as a scan",
                functools.partial(written_out, parallel=False),
                args,
            ),
            Form(
                "gradient as associative_scan",
                functools.partial(written_out, parallel=True),
                args,
            ),
        ]
    return Candidate(
        "spikes and their gradient" if slope else "spikes",
        f"T={steps}, {shape[0]}x{shape[1]}",
        forms,
        # A program that keeps a neuron's potentials on the chip moves no more.
        least_bytes=(4 if slope else 2) * FLOAT * current.size,
        flops=(14 if slope else 4) * current.size,
    )


def candidates(scale: str, only: set[str]) -> list[Candidate]:
    """Those of a scale, "full" or "tiny", by the names of `kernels.GROUPS`."""
    tiny, found = scale == "tiny", []
    if "match" in only:
        found.append(match(update_shapes(tiny)))
    if "tv" in only:
        shapes = (
            [(2, 1, 8, 8, 3)] if tiny else [(32, 1, 32, 32, 3), (1, 1, 224, 224, 3)]
        )
        found += [total_variation(shape) for shape in shapes]
    if "span" in only:
        found.append(span(64, 16, 4, 16) if tiny else span(65536, 256, 64))
    if "spikes" in only:
        sizes: Any = (4, (2, 8)) if tiny else (50, (32, 4096))
        found += [spikes(*sizes, slope=slope) for slope in (False, True)]
    return found
