"""The pullback by forward over reverse against reverse over reverse and differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import matching, models
from jaxinv.errors import InputError, SlowPathWarning
from jaxinv.factored import Factored, factored_gradient
from jaxinv.objective import objective
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.second_order import gradient_map
from jaxinv.target import Batch, Spec, Variables

SPEC = Spec((12, 12, 3), 5)
MODELS = {
    "mlp": {"widths": (16, 16)},
    "lenet": {},
    "resnet18": {"width": 4, "norm": "batch_training"},
    "vit": {"dim": 16, "depth": 2, "heads": 2},
}
MATCHES = {
    "cosine": matching.cosine(),
    "angular": matching.angular(),
    "weighted": matching.cosine(matching.by_depth("linear")),
    "squared": matching.squared(),
    "l1": matching.l1(),
    "tag": matching.tag(),
    "masked": matching.masked(matching.cosine(), threshold=1e-3),
}


pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def widen(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


@functools.cache
def case(name):
    target = models.build(name, SPEC, **MODELS[name])
    params = widen(jax.jit(target.init)(jax.random.key(0)))
    draw = np.random.default_rng(0).uniform(size=(2, 1, *SPEC.shape))
    truth, guess = (Batch(jnp.asarray(x), jnp.array([3])) for x in draw)
    sent = jax.jit(gradient(target.loss, route="reverse", rewritten=False))(
        jax.random.key(0), params, truth
    )
    seen = observe(params, sent, num_examples=1, spec=SPEC, labels=[3])
    return target, seen, guess


def slope(release, match, seen, guess):
    fn = objective(release, match)

    def total(inputs, seen):
        return fn(jax.random.key(0), seen, guess._replace(inputs=inputs))[0]

    return jax.jit(jax.value_and_grad(total))(guess.inputs, seen)


def close(found, expected, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(jnp.abs(b).max()) or 1.0
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_agrees_with_reverse_over_reverse(name):
    target, seen, guess = case(name)
    matches = matching.cosine(), matching.squared()
    plain = gradient(target.loss, route="reverse", rewritten=False)
    # One program for both matches: their sum, weighted by what it is given.
    fns = [objective(plain, lambda *a, match=match: match(*a)) for match in matches]

    @jax.jit
    @jax.value_and_grad
    def weighted(inputs, weights, seen):
        key, moved = jax.random.key(0), guess._replace(inputs=inputs)
        return sum(
            w * fn(key, seen, moved)[0] for w, fn in zip(weights, fns, strict=True)
        )

    for match, weights in zip(matches, np.eye(2), strict=True):
        expected = weighted(guess.inputs, weights, seen)
        close(slope(gradient(target.loss), match, seen, guess), expected)


@pytest.mark.parametrize("name", MATCHES)
def test_every_match_agrees_with_reverse_over_reverse(name):
    target, seen, guess = case("mlp")
    plain = gradient(target.loss, route="reverse", rewritten=False)
    expected = slope(lambda *a: plain(*a), MATCHES[name], seen, guess)
    close(slope(gradient(target.loss), MATCHES[name], seen, guess), expected)
    close(slope(gradient(target.loss, route="reverse"), MATCHES[name], seen, guess),
          expected)  # fmt: skip


@pytest.mark.parametrize("match", ["cosine", "squared"])
def test_the_slope_is_that_of_finite_differences(match):
    target, seen, guess = case("lenet")
    fn = objective(gradient(target.loss), MATCHES[match])
    way = jnp.asarray(np.random.default_rng(1).normal(size=guess.inputs.shape))

    @jax.jit
    def total(step):
        moved = guess._replace(inputs=guess.inputs + step * way)
        return fn(jax.random.key(0), seen, moved)[0]

    _, found = slope(gradient(target.loss), MATCHES[match], seen, guess)
    eps = 1e-5
    expected = (total(eps) - total(-eps)) / (2 * eps)
    np.testing.assert_allclose(jnp.vdot(found, way), expected, rtol=1e-6)


def test_a_hidden_layer_costs_seven_products():
    """What is left of each route once XLA has dropped what nobody reads."""
    depth, width = 6, 8

    def loss(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.sum(x**2)

    def count(depth):
        params = [jnp.ones((width, width))] * depth
        slope_map = gradient_map(loss)

        def total(x):
            return matching.squared()(slope_map(params, x), params)

        grad = jax.jit(jax.grad(total)).lower(jnp.ones((3, width))).compile()
        return grad.as_text().count(" dot(")

    assert count(depth) - count(depth - 1) <= 7


@jax.custom_vjp
def opaque(x):
    return jnp.tanh(x)


opaque.defvjp(lambda x: (opaque(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))


def test_an_operation_without_forward_mode_falls_back_and_says_so():
    def loss(params, batch, f):
        return jnp.sum(f(batch.inputs.reshape(1, -1) @ params) ** 3)

    params = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4)))
    batch = Batch(jnp.asarray(np.random.default_rng(1).normal(size=(1, 12))), None)

    def pull(route, f):
        fn = gradient_map(lambda p, b: loss(p, b, f), route=route)
        return jax.grad(lambda b: jnp.sum(fn(params, b) ** 2))(batch).inputs

    for f in (opaque, jax.jit(opaque)):
        with pytest.warns(SlowPathWarning, match="refuses forward mode"):
            found = pull("forward", f)
    np.testing.assert_allclose(found, pull("reverse", jnp.tanh), rtol=1e-10)


def test_an_error_of_the_loss_is_not_taken_for_a_refusal():
    def loss(params, batch):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        jax.grad(lambda b: gradient_map(loss)(jnp.ones(3), b)[0])(jnp.ones(3))


def test_parameters_state_and_closures_are_differentiated_too():
    """A defence that is learned differentiates through what the server holds."""
    state = jnp.asarray([0.5, -1.0, 2.0])

    def total(scale, params, state, route):
        def loss(variables, x):
            hidden = jnp.tanh(scale * x * variables.params + variables.state)
            return jnp.sum(hidden**2)

        release = gradient(loss, route=route)
        sent = release(jax.random.key(0), Variables(params, state), jnp.ones(3))
        return jnp.sum(sent**3)

    args = (jnp.asarray(0.7), jnp.asarray([1.0, 2.0, 3.0]), state)
    found, expected = (
        jax.grad(lambda *a, r=route: total(*a, r), (0, 1, 2))(*args)
        for route in ("forward", "reverse")
    )
    close(found, expected)


def test_the_pullback_can_be_differentiated_again():
    target, seen, guess = case("mlp")

    def after_a_step(inputs, route):
        release = gradient(target.loss, route=route)
        fn = objective(release, matching.cosine())

        def total(x):
            return fn(jax.random.key(0), seen, guess._replace(inputs=x))[0]

        return total(inputs - 0.1 * jax.grad(total)(inputs))

    found, expected = (
        jax.jit(jax.grad(lambda x, r=r: after_a_step(x, r)))(guess.inputs)
        for r in ("forward", "reverse")
    )
    close(found, expected)


def test_reverse_is_open_to_forward_mode():
    def push(route):
        fn = gradient_map(lambda p, x: jnp.sum(jnp.sin(p * x)), route=route)
        return jax.jvp(lambda x: fn(1.0, x), (2.0,), (1.0,))[1]

    expected = jnp.cos(2.0) - 2.0 * jnp.sin(2.0)
    np.testing.assert_allclose(push("reverse"), expected)
    with pytest.raises(TypeError):
        push("forward")


def test_an_unknown_route_is_refused():
    with pytest.raises(InputError, match="route is 'sideways'; expected one of"):
        gradient_map(lambda p, b: 0.0, route="sideways")


def sent(loss, params, batch):
    return factored_gradient(loss)(params, batch), jax.grad(loss)(params, batch)


def dense(tree):
    return jax.tree.map(lambda x: x.dense() if isinstance(x, Factored) else x, tree)


@pytest.mark.parametrize("name", MODELS)
def test_factors_make_the_gradient(name):
    target, seen, guess = case(name)
    params, _ = seen.round(0)
    other = np.random.default_rng(0)

    @jax.jit
    def both(params, guess):
        found = gradient(target.loss).factored(params, guess)
        expected = gradient(target.loss, rewritten=False)(None, params, guess)
        some = [x for x in jax.tree.leaves(found) if isinstance(x, Factored)]
        draws = [other.normal(size=x.shape) for x in some]
        read = [
            (x.dense(), u, x.inner(u), x.norm2(), x.over(3.0).dense())
            for x, u in zip(some, draws, strict=True)
        ]
        return dense(found), expected, read

    found, expected, some = both(params, guess)
    close(found, expected)
    assert some
    for array, u, inner, norm2, third in jax.tree.map(np.asarray, some):
        np.testing.assert_allclose(inner, np.sum(array * u), rtol=1e-9)
        np.testing.assert_allclose(norm2, np.sum(array**2), rtol=1e-9)
        np.testing.assert_allclose(third, array / 3, rtol=1e-12)


def energy(y):
    return jnp.sum(jnp.tanh(y) ** 2)


def over_several_axes(p, x):
    w = p["w"].reshape(4, 5, 20)
    return energy(jnp.einsum("nij,ijk->nk", x.reshape(1, 4, 5), w))


LOSSES = {
    "transposed": lambda p, x: energy(x @ p["w"].T),
    "parameter first": lambda p, x: energy(p["w"] @ x.T),
    "reshaped": lambda p, x: energy(x @ p["w"].reshape(4, 5, 20).reshape(20, 20)),
    "jitted": jax.jit(lambda p, x: energy(x @ p["w"])),
    "several axes": over_several_axes,
}
TIED = {
    "twice": lambda p, x: energy(jnp.tanh(x @ p["w"]) @ p["w"]),
    "decayed": lambda p, x: energy(x @ p["w"]) + jnp.sum(p["w"] ** 2),
    "scaled": lambda p, x: energy(x @ (2 * p["w"])),
    "remat": jax.checkpoint(lambda p, x: energy(x @ p["w"])),
}


@pytest.mark.parametrize("name", [*LOSSES, *TIED])
def test_what_is_factored_and_what_is_not(name):
    loss = {**LOSSES, **TIED}[name]
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(20, 20)))}
    x = jnp.asarray(rng.normal(size=(1, 20)))
    found, expected = sent(loss, params, x)
    assert isinstance(found["w"], Factored) == (name in LOSSES)
    close(dense(found), expected)


def test_many_rows_are_not_factored():
    loss, params = LOSSES["jitted"], {"w": jnp.ones((20, 20))}
    for rows, factored in ((5, True), (6, False)):
        found, _ = sent(loss, params, jnp.ones((rows, 20)))
        assert isinstance(found["w"], Factored) == factored


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_angle_of_factors_does_not_depend_on_their_scale(scale):
    with jax.enable_x64(False):
        rng = np.random.default_rng(0)
        w, u = (jnp.asarray(rng.normal(size=(20, 20)), jnp.float32) for _ in range(2))
        x = jnp.asarray(rng.normal(size=(1, 20)), jnp.float32)

        def match(x, scale):
            def loss(p, x):
                return scale * jnp.sum(jnp.tanh(x @ p) ** 2)

            return matching.cosine()(factored_gradient(loss)(w, x), u)

        found = jax.value_and_grad(match)(x, jnp.float32(scale))
        expected = jax.value_and_grad(match)(x, jnp.float32(1.0))
        close(found, expected, 1e-5)
