"""A convolution is rewritten wherever it stands: loops, branches, rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxinv_kernels.rewrite import rewrite
from slow_functions import (
    batch_of,
    block,
    check,
    close,
    conv,
    cross_entropy,
    draw,
    pool,
    slow_primitives,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def plain(params, x):
    return pool(block(params[0], x))


def in_jit(params, x):
    return jax.jit(block)(params[1], jax.jit(block)(params[0], x))


def in_scan(params, x):
    def step(x, kernel):
        return block(kernel, x), pool(x)

    x, pools = lax.scan(step, x, params)
    return x + pools.sum()


def in_fori_loop(params, x):
    return lax.fori_loop(0, 2, lambda i, x: block(params[i], x), x)


def in_cond(params, x):
    def sine(x):
        return jnp.sin(x)

    return lax.cond(x.sum() > 0, sine, lambda x: block(params[0], x), x)


def in_switch(params, x):
    branches = [jnp.sin, lambda x: block(params[0], x), lambda x: x * params[1].sum()]
    return lax.switch((x.sum() > 0).astype(int), branches, x)


def in_checkpoint(params, x):
    save = jax.checkpoint_policies.dots_saveable
    x = jax.checkpoint(block, policy=save)(params[0], x)
    return jax.checkpoint(block, prevent_cse=False)(params[1], x)


def in_everything(params, x):
    @jax.checkpoint
    def step(x, kernel):
        return lax.cond(x.sum() > 0, jax.jit(block), lambda k, x: x, kernel, x), None

    return lax.scan(step, x, params)[0]


def in_vmap(params, x):
    return jax.vmap(block, (0, None))(params, x).sum(0)


def with_a_gradient_inside(params, x):
    step = jax.grad(lambda k: jnp.sum(pool(block(k, x)) ** 2))(params[0])
    _, tangent = jax.jvp(pool, (x,), (jnp.sin(x),))
    return block(params[1] - 0.1 * step, x) + tangent.sum()


@jax.custom_jvp
def odd_jvp(kernel, x):
    return block(kernel, x)


@odd_jvp.defjvp
def _(primals, tangents):
    kernel, x = primals
    dk, dx = tangents
    # Not the derivative, on purpose: whoever drops the rule gets other numbers.
    return odd_jvp(kernel, x), 3 * jnp.cos(conv(x, kernel)) * conv(
        dx, kernel
    ) + dk.sum()


@jax.custom_vjp
def odd_vjp(kernel, x):
    return block(kernel, x)


def odd_fwd(kernel, x):
    return block(kernel, x), (kernel, conv(x, kernel))


def odd_bwd(residuals, g):
    kernel, y = residuals
    return 5 * kernel * jnp.sin(g).sum(), conv(g * y, kernel)


odd_vjp.defvjp(odd_fwd, odd_bwd)


@jax.custom_vjp
def symbolic_vjp(kernel, x):
    return block(kernel, x), x


def symbolic_fwd(kernel, x):
    out = block(kernel.value, x.value), x.value
    return out, (kernel.value, x.value if x.perturbed else None)


def symbolic_bwd(residuals, gs):
    kernel, x = residuals
    zero = jax.custom_derivatives.SymbolicZero
    g, unused = gs
    assert not isinstance(g, zero) and isinstance(unused, zero)
    return (kernel * g.sum(), None if x is None else 7 * conv(g * x, kernel))


symbolic_vjp.defvjp(symbolic_fwd, symbolic_bwd, symbolic_zeros=True)


@jax.custom_jvp
def symbolic_jvp(kernel, x, scale):
    return scale * block(kernel, x)


def symbolic_rule(primals, tangents):
    kernel, x, scale = primals
    dk, dx, ds = tangents
    assert isinstance(ds, jax.custom_derivatives.SymbolicZero)
    tangent = 0.0 * x
    for t in (dk, dx):
        if not isinstance(t, jax.custom_derivatives.SymbolicZero):
            tangent += 2 * scale * t.sum() * conv(x, kernel)
    return symbolic_jvp(kernel, x, scale), tangent


symbolic_jvp.defjvp(symbolic_rule, symbolic_zeros=True)


def in_custom_jvp(params, x):
    return odd_jvp(params[1], odd_jvp(params[0], x))


def in_custom_vjp(params, x):
    return odd_vjp(params[1], odd_vjp(params[0], x))


def in_symbolic_rules(params, x):
    return symbolic_vjp(params[0], symbolic_jvp(params[1], x, jnp.ones(())))[0]


def in_scanned_rules(params, x):
    def step(x, kernel):
        return jax.jit(odd_vjp)(kernel, jax.checkpoint(odd_jvp)(kernel, x)), None

    return lax.scan(step, x, params)[0]


FUNCTIONS = [
    plain,
    in_jit,
    in_scan,
    in_fori_loop,
    in_cond,
    in_switch,
    in_checkpoint,
    in_everything,
    in_vmap,
    with_a_gradient_inside,
    in_custom_jvp,
    in_custom_vjp,
    in_symbolic_rules,
    in_scanned_rules,
]


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_every_nesting(fn):
    def loss(params, batch):
        x, y = batch
        return cross_entropy(fn(params, x).reshape(len(x), -1), y)

    check(loss, 0.3 * draw(0, 2, 2, 2, 2, 2), batch_of())


def test_a_custom_rule_is_not_the_true_derivative():
    # What the two cases above rely on.
    k, x = draw(0, 3, 3, 2, 2), batch_of()[0]
    true = jax.grad(lambda k: block(k, x).sum())(k)
    for odd in (odd_jvp, odd_vjp):
        found = jax.grad(rewrite(lambda k, odd=odd: odd(k, x).sum()))(k)
        assert np.abs(found - true).max() > 1


def test_while_loop_forward():
    kernel, x = 0.1 * draw(0, 3, 3, 2, 2), batch_of()[0]

    def fn(x):
        def go_on(x):
            return jnp.abs(conv(x, kernel)).sum() > 1e-3

        return lax.while_loop(go_on, lambda x: conv(x, kernel), x)

    assert not slow_primitives(jax.make_jaxpr(rewrite(fn))(x).jaxpr)
    close(rewrite(fn)(x), fn(x))
