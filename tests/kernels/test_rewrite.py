"""A rewritten function composes, and keeps what it must not touch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxinv_kernels.rewrite import rewrite
from slow_functions import (
    batch_of,
    block,
    close,
    conv,
    draw,
    pool,
    run,
    slow_primitives,
    trace,
)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def simple(params, batch):
    return jnp.sum(jnp.sin(pool(conv(batch, params))))


def test_composes_with_the_transformations():
    params, batch = draw(0, 3, 3, 3, 2, 2), draw(1, 2, 4, 4, 2)
    fast = rewrite(simple)

    def all_of(fn, params, batch):
        one = params[0]
        _, push = jax.linearize(jax.grad(fn), one, batch)
        return (
            jax.vmap(jax.value_and_grad(fn), (0, None))(params, batch),
            jax.jvp(fn, (one, batch), (one, batch)),
            jax.jacfwd(fn)(one, batch),
            push(one, batch),
            jax.vmap(jax.grad(lambda p: fn(p, batch)))(params),
            lax.map(lambda p: fn(p, batch), params),
        )

    args = params, batch
    found, truth = (trace(partial(all_of, fn), *args) for fn in (fast, simple))
    assert not slow_primitives(found.jaxpr.jaxpr)
    close(run(found, *args), run(truth, *args))
    assert fast.__name__ == "simple"


def test_twice_is_once():
    args = draw(0, 3, 3, 2, 2), draw(1, 2, 4, 4, 2)
    once = rewrite(simple)
    assert str(jax.make_jaxpr(rewrite(once))(*args)) == str(jax.make_jaxpr(once)(*args))


def test_nothing_slow_is_called_as_it_is():
    def loss(params, batch):
        return jnp.sum(jax.nn.relu(batch @ params))

    args = draw(0, 3, 2), draw(1, 4, 3)
    assert str(jax.make_jaxpr(rewrite(loss))(*args)) == str(jax.make_jaxpr(loss)(*args))


def test_rules_without_slow_operations_are_bound_unchanged():
    def names(fn):
        return [str(e.primitive) for e in jax.make_jaxpr(fn)(x).eqns]

    kernel, x = draw(0, 3, 3, 2, 2), batch_of()[0]
    assert (
        names(rewrite(lambda x: jax.nn.relu(conv(x, kernel))))[-1] == "custom_jvp_call"
    )


def test_arguments_that_are_no_arrays_and_captured_arrays():
    seen = []
    kernel, x, y = draw(0, 3, 3, 2, 2), *batch_of()

    def fn(batch, mode, *, train, scale=2.0, nothing=None):
        seen.append((mode, train, scale, type(batch["labels"])))
        out = conv(batch["x"], kernel) if train else batch["x"]
        aux = {"mode": mode, "y": batch["labels"], "none": nothing, "float": scale}
        return scale * pool(out).sum(), aux

    batch = {"x": x, "labels": np.asarray(y)}
    found, truth = (f(batch, "a", train=True) for f in (rewrite(fn), fn))
    assert found[1]["mode"] == "a" and found[1]["none"] is None
    assert found[1]["float"] == 2.0 and found[1]["y"] is batch["labels"]
    close(found[0], truth[0])
    assert set(seen) == {("a", True, 2.0, np.ndarray)}
    # A tracer captured from outside is differentiated.
    grads = [
        jax.grad(lambda k, w=wrap: w(lambda x: conv(x, k).sum())(x))(kernel)
        for wrap in (rewrite, lambda fn: fn)
    ]
    close(*grads)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype_stays(dtype):
    params, batch = draw(0, 3, 3, 2, 2).astype(dtype), draw(1, 2, 4, 4, 2).astype(dtype)

    def fn(params, batch):
        y = conv(batch, params, preferred_element_type=jnp.float32)
        return pool(conv(batch, params)), pool(batch, 0.0, lax.add), y, batch * 2

    found, truth = rewrite(fn)(params, batch), fn(params, batch)
    for a, b in zip(found, truth, strict=True):
        assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
        a, b = np.asarray(a, float), np.asarray(b, float)
        tolerance = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=8 * tolerance)


def test_collectives_keep_their_axis():
    kernel, x = draw(0, 3, 3, 2, 2), batch_of()[0]

    def fn(x):
        return lax.psum(conv(x[None], kernel), "examples")

    found, truth = (jax.vmap(f, axis_name="examples")(x) for f in (rewrite(fn), fn))
    close(found, truth)


def test_explicit_sharding_stays():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    kernel, x = draw(0, 3, 3, 2, 2), batch_of()[0]
    with jax.set_mesh(mesh):
        where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
        x = jax.device_put(x, where)
        close(rewrite(conv)(x, kernel), conv(x, kernel))


def test_effects_happen_once(capfd):
    @jax.jit
    def inner(x):
        jax.debug.print("seen {}", x.shape[0], ordered=True)
        return pool(x).sum()

    rewrite(inner)(batch_of()[0])
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen 2") == 1


def test_a_shared_block_is_compiled_once():
    shared = jax.jit(block)

    def fn(kernel, x):
        return shared(kernel, shared(kernel, x))

    jaxpr = jax.make_jaxpr(rewrite(fn))(draw(0, 3, 3, 2, 2), batch_of()[0])
    first, second = (e.params["jaxpr"] for e in jaxpr.eqns)
    assert first is second


def test_errors_of_the_loss_surface_as_themselves():
    class OwnError(Exception):
        pass

    def loss(params, batch):
        conv(batch, params)
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        rewrite(loss)(draw(0, 3, 3, 2, 2), batch_of()[0])
