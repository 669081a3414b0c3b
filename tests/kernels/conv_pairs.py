"""Convolutions by matrix products beside XLA's, and how they are compared."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxinv_kernels.conv import (
    conv_general_dilated,
    reference,
)

NHWC = ("NHWC", "HWIO", "NHWC")


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def close(guess, truth):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
        guess,
        truth,
    )


def three_orders(fn, args, directions):
    """Value, gradient, and the gradient of the gradient along directions."""

    def scalar(*args):
        return jnp.sum(jnp.sin(fn(*args)))

    which = tuple(range(len(args)))
    first = jax.grad(scalar, which)

    def along(*args):
        parts = zip(first(*args), directions, strict=True)
        return sum(jnp.vdot(g, d) for g, d in parts)

    return fn(*args), first(*args), jax.grad(along, which)(*args)


def quick(fn):
    """Compiled in less time: these run once."""
    return jax.jit(fn, compiler_options={"xla_backend_optimization_level": 0})


def conv_pair(strides, padding, dilation):
    kwargs = {"rhs_dilation": dilation, "dimension_numbers": NHWC}

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, **kwargs)

    def truth(x, k):
        return reference.conv(x, k, strides, padding, **kwargs)

    return ours, truth


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            if hasattr(value, "jaxpr"):
                yield from primitives(value.jaxpr)


# Inputs, kernel, strides, padding and what else; each is done by another line of code.
NCHW = ("NCHW", "OIHW", "NCHW")
SAME = ((1, 1), (1, 1))
KINDS = {
    "plain": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), SAME, {}),
    "strided": ((1, 8, 7, 2), (5, 5, 2, 3), (2, 2), ((2, 2), (2, 2)), {}),
    "one_by_one": ((1, 5, 6, 3), (1, 1, 3, 2), (2, 2), "VALID", {}),
    "dilated": ((1, 7, 6, 2), (3, 3, 2, 2), (1, 2), SAME, {"rhs_dilation": (2, 1)}),
    "grouped": (
        (2, 5, 4, 6),
        (3, 3, 3, 4),
        (2, 1),
        SAME,
        {"feature_group_count": 2},
    ),
    "depthwise": (
        (2, 5, 4, 3),
        (3, 3, 1, 6),
        (1, 2),
        SAME,
        {"feature_group_count": 3},
    ),
    "examples_grouped": (
        (4, 5, 4, 3),
        (3, 3, 3, 4),
        (1, 1),
        SAME,
        {"batch_group_count": 2},
    ),
    "transposed": (
        (2, 4, 3, 2),
        (3, 4, 2, 3),
        (1, 1),
        ((1, 2), (2, -1)),
        {"lhs_dilation": (2, 3)},
    ),
    "transposed_grouped": (
        (2, 4, 3, 4),
        (3, 3, 2, 4),
        (1, 1),
        ((1, 2), (2, 1)),
        {"lhs_dilation": (2, 2), "rhs_dilation": (1, 2), "feature_group_count": 2},
    ),
    "transposed_strided": (
        (1, 4, 3, 2),
        (3, 3, 2, 3),
        (2, 1),
        SAME,
        {"lhs_dilation": (3, 2)},
    ),
    "channels_first": (
        (2, 3, 6, 5),
        (4, 3, 3, 3),
        (1, 1),
        SAME,
        {"dimension_numbers": NCHW},
    ),
    "winograd": ((2, 6, 5, 3), (3, 3, 3, 4), (1, 1), SAME, {"form": "winograd"}),
}


def kind_of_pair(kind):
    shape, kernel, strides, padding, more = KINDS[kind]
    kwargs = {"dimension_numbers": NHWC} | more

    def ours(x, k):
        return conv_general_dilated(x, k, strides, padding, **kwargs)

    def truth(x, k):
        theirs = {name: v for name, v in kwargs.items() if name != "form"}
        return lax.conv_general_dilated(x, k, strides, padding, **theirs)

    return shape, kernel, ours, truth
