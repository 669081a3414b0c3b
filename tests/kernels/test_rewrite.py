"""A rewritten function is the same function, and nothing slow is left in it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.extend.core import jaxprs_in_params
from jaxinv_kernels.rewrite import contains_slow, operations, rewrite

NHWC = ("NHWC", "HWIO", "NHWC")
SLOW = ("conv_general_dilated", "reduce_window", "select_and_")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def slow_primitives(jaxpr):
    found = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(SLOW):
            found.add(eqn.primitive.name)
        for inner in jaxprs_in_params(eqn.params):
            found |= slow_primitives(inner)
    return found


def orders(loss):
    """Value, gradient, and the gradient of a match of the gradient."""

    def run(params, batch):
        def match(x):
            grads = jax.grad(loss)(params, (x, *batch[1:]))
            leaves = jax.tree.leaves(grads)
            return sum(jnp.sum(jnp.sin(3 * g + i)) for i, g in enumerate(leaves))

        value, grads = jax.value_and_grad(loss)(params, batch)
        return value, grads, jax.grad(match)(batch[0])

    return run


def close(guess, truth):
    assert jax.tree.structure(guess) == jax.tree.structure(truth)
    for a, b in zip(jax.tree.leaves(guess), jax.tree.leaves(truth), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def trace(fn, *args):
    # Each runs once: the time would go to compilation.
    fast = {"xla_backend_optimization_level": 0}
    return jax.jit(fn, compiler_options=fast).trace(*args)


def run(traced, *args):
    return traced.lower().compile()(*args)


def check(loss, *args):
    """The rewritten loss agrees in three orders, and none of them is slow."""
    truth, found = trace(orders(loss), *args), trace(orders(rewrite(loss)), *args)
    assert slow_primitives(truth.jaxpr.jaxpr)
    assert not slow_primitives(found.jaxpr.jaxpr)
    assert not contains_slow(found.jaxpr)
    close(run(found, *args), run(truth, *args))


def conv(x, kernel, **kwargs):
    kwargs = {"dimension_numbers": NHWC, **kwargs}
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", **kwargs)


def pool(x, init=-jnp.inf, reduce=lax.max, window=(1, 2, 2, 1), strides=(1, 2, 2, 1)):
    return lax.reduce_window(x, init, reduce, window, strides, "VALID")


def batch_of(channels=2, size=4):
    """Images and integer labels."""
    return draw(1, 2, size, size, channels), jnp.array([1, 0])


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


# ---- What jit, loops, branches and rules hold: one convolution. ----


def block(kernel, x):
    return jnp.tanh(conv(x, kernel))


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


# ---- Pools of every kind. ----

POOLS = {
    "channels_first": lambda x: pool(x, window=(1, 1, 2, 2), strides=(1, 1, 2, 2)),
    "batch_and_channels": lambda x: pool(x, window=(2, 1, 1, 2), strides=(1, 1, 1, 1)),
    "min": lambda x: pool(x, jnp.inf, lax.min),
    "sum": lambda x: pool(x, 0.0, lax.add),
    "strides_alone": lambda x: pool(x, window=(1, 1, 1, 1)),
    "nothing": lambda x: pool(x, 0.0, lax.add, (1,) * 4, (1,) * 4),
    "global": lambda x: pool(x, 0.0, lax.add, (1, 4, 4, 1), (1, 1, 1, 1)),
    "dilated": lambda x: lax.reduce_window(
        *(x, 0.0, lax.add, (1, 2, 3, 1), (1, 2, 1, 1)),
        [(0, 0), (1, 0), (2, 1), (0, 0)],
        base_dilation=(1, 2, 1, 1),
        window_dilation=(1, 1, 2, 1),
    ),
    "dilated_max": lambda x: lax.reduce_window(
        *(x, -jnp.inf, lax.max, (1, 2, 3, 1), (1, 2, 1, 1)),
        [(0, 0), (1, 0), (2, 1), (0, 0)],
        window_dilation=(1, 1, 2, 1),
    ),
    "base_dilated_max": lambda x: lax.reduce_window(
        *(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        base_dilation=(1, 2, 1, 2),
    ),
}


@pytest.mark.parametrize("kind", POOLS)
def test_pools(kind):
    # JAX itself refuses to differentiate a maximum with dilation.
    if kind in ("dilated_max", "base_dilated_max"):
        x = batch_of()[0]
        assert rewrite(POOLS[kind])(x).size > 0
        close(rewrite(POOLS[kind])(x), POOLS[kind](x))
        return

    def loss(scale, batch):
        return jnp.sum(jnp.sin(POOLS[kind](batch[0] * scale)) ** 2)

    check(loss, draw(0, 2), batch_of()[:1])


@pytest.mark.parametrize("init", [-jnp.inf, 0.25])
@pytest.mark.parametrize("op", [jnp.maximum, jnp.minimum, lax.add])
def test_reduce_window_with_a_body(op, init):
    def fn(x, init):
        return jax.jit(lambda x, init: pool(x, init, op))(x, init)

    args = batch_of()[0], jnp.asarray(init)
    assert slow_primitives(jax.make_jaxpr(fn)(*args).jaxpr) == {"reduce_window"}
    assert not slow_primitives(jax.make_jaxpr(rewrite(fn))(*args).jaxpr)
    close(rewrite(fn)(*args), fn(*args))


def test_what_has_no_fast_form_stays(monkeypatch):
    x = batch_of()[0]
    whole = (10 * x).astype(int)
    for fn in (
        lambda: pool(whole, np.iinfo(whole.dtype).min),
        lambda: pool(x, 1.0, lax.mul),
        lambda: pool(x, 0.5, lambda a, b: jnp.sin(a + b)),
    ):
        assert not contains_slow(jax.make_jaxpr(fn)())
        close(rewrite(fn)(), fn())
    monkeypatch.setattr(operations, "MOST_SLICES", 3)
    assert not contains_slow(jax.make_jaxpr(pool)(x))


# ---- Flax. ----


class Zoo(nn.Module):
    """Every kind of convolution that a user of Flax writes."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Conv(4, (3, 3), kernel_dilation=2, feature_group_count=2)(x)
        x = nn.Conv(4, (3, 3), feature_group_count=4, padding="CIRCULAR")(x)
        x = nn.max_pool(nn.silu(x), (2, 2), (2, 2), "SAME")
        x = nn.ConvTranspose(3, (3, 3), strides=(2, 2))(x)
        x = nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False)
        x = nn.Conv(2, (1, 1))(x)
        return nn.Dense(2)(x.reshape(len(x), -1))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.tanh(nn.Conv(2, (3, 3))(x)), None


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, _ = nn.remat(Block)()(x)
        layers = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = layers()(x, None)
        return x.mean((1, 2))


@pytest.mark.parametrize("module", [Zoo, Deep])
def test_linen(module):
    model, batch = module(), batch_of(size=8)
    variables = model.init(jax.random.key(0), batch[0])
    rest = {k: v for k, v in variables.items() if k != "params"}
    params = jax.tree.map(lambda p: p.astype(float), variables["params"])

    def loss(params, batch):
        x, y = batch
        variables = {"params": params, **rest}
        logits, _ = model.apply(variables, x, mutable=["batch_stats"])
        return cross_entropy(logits, y)

    check(loss, params, batch)


def test_nnx():
    class CNN(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(2, 3, (3, 3), rngs=rngs)
            self.second = nnx.Conv(3, 2, (3, 3), strides=2, rngs=rngs)

        def __call__(self, x):
            x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (1, 1))
            return nnx.avg_pool(self.second(x), (2, 2)).reshape(len(x), -1)

    graph, params = nnx.split(CNN(nnx.Rngs(0)))
    params = jax.tree.map(lambda p: p.astype(float), params)

    def loss(params, batch):
        x, y = batch
        return cross_entropy(nnx.merge(graph, params)(x), y)

    check(loss, params, batch_of())


def test_channels_first():
    def loss(params, batch):
        x = jnp.sin(lax.conv(batch[0], params, (2, 2), "SAME"))
        x = lax.conv_general_dilated(x, params, (1, 1), [(1, 1)] * 2, (2, 1))
        return jnp.sum(x**2)

    check(loss, draw(0, 2, 2, 3, 3), (draw(1, 2, 2, 6, 6),))


# ---- The contract of the wrapper. ----


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
