"""Local training against PyTorch, its memory, and what an attacker makes of a delta."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv import matching, models
from jaxinv.adam import adam
from jaxinv.attacks import build
from jaxinv.attacks.base import iterate, restarts
from jaxinv.attacks.cosine_lbfgs import cosine_lbfgs
from jaxinv.attacks.labels import LABEL_RULES, label_rule
from jaxinv.attacks.linear_layer import linear_layer
from jaxinv.client import simulate
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.fedavg import FedAvg, aggregated, fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import exact_gradient, mean_gradient, observe
from jaxinv.release import gradient, trained
from jaxinv.target import Batch, Spec, Variables, cross_entropy, from_function

# Large enough for LeNet: on smaller maps some weights meet padding alone, and where a
# gradient is 0 PyTorch's Adam has no second derivative.
SPEC = Spec((16, 16, 3), 5)
KEY = jax.random.key(0)
# The time of these tests is XLA's compilation.
QUICK = {"xla_backend_optimization_level": 0}


def quick(f):
    return jax.jit(f, compiler_options=QUICK)


def numbers(num, seed=0, spec=SPEC):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(num, *spec.shape)).astype(np.float32)
    return Batch(jnp.asarray(x), jnp.asarray(rng.integers(0, spec.num_classes, num)))


def close(found, expected, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def distance(found, expected):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    pairs = [(np.float64(a), np.float64(b)) for a, b in pairs]
    size = sum((b**2).sum() for _, b in pairs)
    return np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs) / size)


def quadratic(params, batch):
    """A loss that is cheap to compile, and whose training is not linear."""
    return jnp.mean(jnp.tanh(batch.inputs @ params["w"] + params["b"]) ** 2)


FLAT = Spec((3,), 2)
WEIGHTS = {
    "w": jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32),
    "b": jnp.asarray([0.1, -0.2, 0.3, 0.0]),
}


def by_hand(params, batch, order, learning_rate):
    """Plain SGD, a loop over the steps."""
    weights = params
    for row in order:
        mini = Batch(batch.inputs[np.asarray(row)], None)
        grads = jax.grad(quadratic)(weights, mini)
        weights = jax.tree.map(lambda w, g: w - learning_rate * g, weights, grads)
    return jax.tree.map(jnp.subtract, weights, params)


# PyTorch -------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": ("SGD", {}, 0.1),
    "momentum": ("SGD", {"momentum": 0.9}, 0.1),
    "adam": ("Adam", {}, 1e-2),
}
ORDER = [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]


@pytest.fixture(scope="module")
def lenet():
    target = models.build("lenet", SPEC)
    return target, jax.jit(target.init)(KEY)


@pytest.fixture(scope="module")
def twin(lenet):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from bench.torch_models import build_twin, load_flax

    torch.set_num_threads(1)
    return load_flax(build_twin("lenet", SPEC).double(), lenet[1])


def torch_delta(twin, batch, kind, options, learning_rate):
    """Local training by PyTorch's own optimiser, in float64."""
    import copy

    import torch

    from bench.torch_peer import channels_first

    twin = copy.deepcopy(twin)
    before = [p.detach().clone() for p in twin.parameters()]
    x = channels_first(np.float64(batch.inputs), "cpu")
    y = torch.tensor(np.asarray(batch.labels)).long()
    make = getattr(torch.optim, kind)
    optimizer = make(twin.parameters(), lr=learning_rate, **options)
    for row in ORDER:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(x[row]), y[row]).backward()
        optimizer.step()
    pairs = zip(twin.parameters(), before, strict=True)
    return [after.detach() - old for after, old in pairs]


def torch_slope(twin, batch, observed, name, learning_rate):
    """The squared match and its gradient by the inputs, through all of training."""
    import torch

    from bench.torch_peer import channels_first

    start = dict(twin.named_parameters())
    weights = dict(start)
    x = channels_first(np.float64(batch.inputs), "cpu").requires_grad_()
    y = torch.tensor(np.asarray(batch.labels)).long()
    first = {k: torch.zeros_like(v) for k, v in weights.items()}
    second = {k: torch.zeros_like(v) for k, v in weights.items()}
    for t, row in enumerate(ORDER, 1):
        out = torch.func.functional_call(twin, weights, (x[row],))
        loss = torch.nn.functional.cross_entropy(out, y[row])
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        grads = dict(zip(weights, found, strict=True))
        for k, g in grads.items():
            if name == "momentum":
                first[k] = 0.9 * first[k] + g
                g = first[k]
            if name == "adam":
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g**2
                root = (second[k] / (1 - 0.999**t)).sqrt() + 1e-8
                g = first[k] / (1 - 0.9**t) / root
            weights[k] = weights[k] - learning_rate * g
    pairs = zip(weights, observed, strict=True)
    match = sum(((weights[k] - start[k] - u) ** 2).sum() for k, u in pairs)
    (slope,) = torch.autograd.grad(match, x)
    return match.item(), slope.movedim(1, -1).numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_pytorchs_local_training_and_so_is_its_slope(name, lenet, twin):
    from bench.torch_models import to_flax

    target, params = lenet
    kind, options, rate = OPTIMIZERS[name]
    truth, guess = numbers(4, 1), numbers(4, 2)._replace(labels=numbers(4, 1).labels)
    sent = torch_delta(twin, truth, kind, options, rate)
    expected = to_flax(twin, sent, params)
    release = fedavg(target.loss, rate, local_steps=5, batch_size=2, optimizer=name)
    found = quick(release)(KEY, params, truth)
    assert distance(found, expected) < 2e-6

    match, slope = torch_slope(twin, guess, sent, name, rate)

    def total(inputs, params):
        mine = release(KEY, params, guess._replace(inputs=inputs))
        return matching.squared()(mine, expected)

    # Adam's in float32 is the next test's.
    with jax.enable_x64(name == "adam"):
        dtype = np.float64 if name == "adam" else np.float32
        args = jax.tree.map(lambda x: np.asarray(x, dtype), (guess.inputs, params))
        value, mine = quick(jax.value_and_grad(total))(*args)
    np.testing.assert_allclose(value, match, rtol=1e-4)
    assert distance(mine, slope) < (1e-8 if name == "adam" else 1e-4)


def test_adams_slope_in_float32_is_exact_but_where_a_gradient_has_no_digits(lenet):
    """Adam's slope by a gradient g is about 1 / |g|, and g is as good as float32.

    Two of 9,101 weights have a first gradient below 1e-5 of the largest; they are most
    of the slope, and 11 % of it is their rounding (in PyTorch's float32 3 %: each is
    one draw). In float64 throughout, rounding the inputs to float32 changes it as
    much. Without those weights the slope is exact to 2e-5.
    """
    target, params = lenet
    truth, guess = numbers(4, 1), numbers(4, 2)._replace(labels=numbers(4, 1).labels)
    first = jax.tree.map(lambda x: x[:2], guess)
    size = jax.tree.map(jnp.abs, quick(gradient(target.loss))(KEY, params, first))
    least = 1e-5 * max(x.max() for x in jax.tree.leaves(size))
    faint = jax.tree.map(lambda x: x < least, size)
    assert 1 <= sum(int(x.sum()) for x in jax.tree.leaves(faint)) <= 5
    nobody = jax.tree.map(jnp.zeros_like, faint)

    def total(inputs, params, sent, held):
        def update(grads, state, weights=None):
            still = jax.lax.stop_gradient
            pairs = jax.tree.map(lambda g, h: jnp.where(h, still(g), g), grads, held)
            return own.update(pairs, state, weights)

        own = adam(1e-2)
        holding = optax.GradientTransformation(own.init, update)
        options = {"local_steps": 5, "batch_size": 2, "optimizer": holding}
        mine = fedavg(target.loss, 1e-2, **options)(
            KEY, params, guess._replace(inputs=inputs)
        )
        return matching.squared()(mine, sent)

    release = fedavg(target.loss, 1e-2, local_steps=5, batch_size=2, optimizer="adam")
    args = guess.inputs, params, quick(release)(KEY, params, truth)
    slope = quick(jax.grad(total))
    mine, mine_all = slope(*args, faint), slope(*args, nobody)
    with jax.enable_x64(True):
        args = jax.tree.map(np.float64, args)
        exact, exact_all = slope(*args, faint), slope(*args, nobody)
        rounding = np.random.default_rng(0).uniform(-1, 1, args[0].shape) / 2**24
        moved = slope(args[0] * (1 + rounding), *args[1:], nobody)
    assert exact.dtype == np.float64
    assert distance(mine, exact) < 1e-4
    assert distance(mine_all, exact_all) > 1e-3
    assert distance(moved, exact_all) > 1e-3


def test_adam_is_differentiable_where_a_gradient_is_exactly_zero():
    def loss(params, batch):
        # The second unit is dead whatever the input.
        hidden = jax.nn.relu(batch.inputs @ params["w"] + jnp.asarray([5.0, -50.0]))
        return jnp.mean(hidden**2)

    params = {"w": jnp.ones((3, 2))}
    batch = Batch(jnp.asarray([[0.1, 0.2, 0.3], [0.5, 0.1, 0.0]]), None)
    release = fedavg(loss, 1e-2, local_steps=3, optimizer="adam")
    delta = release(KEY, params, batch)["w"]
    assert not delta[:, 1].any() and delta[:, 0].all()

    def total(x):
        # Squares would send a direction of 0 back where the delta is 0.
        return jnp.sum(jnp.sin(release(KEY, params, Batch(x, None))["w"]))

    slope = jax.grad(total)(batch.inputs)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0


# Steps and order -----------------------------------------------------------------


def test_one_step_of_sgd_is_the_gradient_times_the_step_size(lenet):
    target, params = lenet
    batch = numbers(3)
    delta = quick(fedavg(target.loss, 0.25))(KEY, params, batch)
    grads = quick(gradient(target.loss))(KEY, params, batch)
    close(delta, jax.tree.map(lambda g: -0.25 * g, grads), 1e-5)


ORDERS = {
    "one epoch": ({"batch_size": 2}, [[0, 1], [2, 3]]),
    "epoch after epoch": ({"batch_size": 2, "epochs": 2}, [[0, 1], [2, 3]] * 2),
    "full batch": ({"local_steps": 3}, [[0, 1, 2, 3]] * 3),
    "cycled": ({"local_steps": 3, "batch_size": 2}, [[0, 1], [2, 3], [0, 1]]),
    "declared": ({"order": [[3, 1], [0, 0], [2, 1]]}, [[3, 1], [0, 0], [2, 1]]),
    # Past what is kept flat: whole segments, and a prime with a rest.
    "segments": ({"local_steps": 12, "batch_size": 1}, [[i % 4] for i in range(12)]),
    "a rest": ({"local_steps": 23, "batch_size": 1}, [[i % 4] for i in range(23)]),
}


@pytest.mark.parametrize("case", ORDERS)
def test_examples_meet_in_the_order_asked_for(case):
    options, order = ORDERS[case]
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    release = fedavg(quadratic, 0.3, **options)
    np.testing.assert_array_equal(release.local.indices(KEY, 4), order)
    close(release(KEY, WEIGHTS, batch), by_hand(WEIGHTS, batch, order, 0.3), 1e-5)

    def slope(f):
        return jax.grad(lambda x: jnp.sum(f(Batch(x, None))["w"] ** 2))(batch.inputs)

    mine = slope(lambda b: release(KEY, WEIGHTS, b))
    close(mine, slope(lambda b: by_hand(WEIGHTS, b, order, 0.3)), 1e-4)


def test_a_shuffled_order_is_a_new_permutation_each_epoch():
    local = LocalTraining(0.1, epochs=6, batch_size=2, order="shuffled")
    rows = np.asarray(local.indices(KEY, 8)).reshape(6, 8)
    np.testing.assert_array_equal(np.sort(rows, 1), np.tile(np.arange(8), (6, 1)))
    assert len(np.unique(rows, axis=0)) == 6
    again, other = (local.indices(jax.random.key(k), 8) for k in (0, 1))
    np.testing.assert_array_equal(again.reshape(6, 8), rows)
    assert (other.reshape(6, 8) != rows).any()
    assert not local.order_known and LocalTraining(0.1).order_known
    batch = Batch(numbers(8, spec=FLAT).inputs, None)
    found = FedAvg(quadratic, local)(KEY, WEIGHTS, batch)
    close(found, by_hand(WEIGHTS, batch, rows.reshape(24, 2), 0.1), 1e-5)


def test_a_transformation_is_taken_as_it_is():
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    own = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1))
    found = fedavg(quadratic, 7.0, optimizer=own)(KEY, WEIGHTS, batch)
    grads = jax.grad(quadratic)(WEIGHTS, batch)
    expected = jax.tree.map(lambda g, w: -0.1 * (g + 0.5 * w), grads, WEIGHTS)
    close(found, expected, 1e-5)


def test_state_is_sent_and_not_trained():
    def loss(variables, batch):
        return variables.state * quadratic(variables.params, batch)

    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    sent = Variables(WEIGHTS, jnp.asarray(0.5))
    found = fedavg(loss, 0.3, local_steps=2)(KEY, sent, batch)
    assert jax.tree.structure(found) == jax.tree.structure(trained(sent))
    close(found, by_hand(WEIGHTS, batch, [[0, 1, 2, 3]] * 2, 0.15), 1e-5)


def test_vmap_over_batches_is_one_after_the_other(lenet):
    target, params = lenet
    release = fedavg(target.loss, 0.1, local_steps=2, batch_size=1)
    batches = [numbers(2, seed) for seed in range(2)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    found = quick(jax.vmap(release, (None, None, 0)))(KEY, params, together)
    alone = quick(release)
    for i, batch in enumerate(batches):
        one = jax.tree.map(lambda x, i=i: x[i], found)
        close(one, alone(KEY, params, batch), 1e-4)


def test_aggregated_is_the_mean_of_the_clients():
    batch = Batch(numbers(6, spec=FLAT).inputs, None)
    release = aggregated(fedavg(quadratic, 0.3, batch_size=1), 3)
    parts = [Batch(batch.inputs[i : i + 2], None) for i in (0, 2, 4)]
    each = [by_hand(WEIGHTS, part, [[0], [1]], 0.3) for part in parts]
    mean = jax.tree.map(lambda *x: sum(x) / 3, *each)
    close(release(KEY, WEIGHTS, batch), mean, 1e-5)
    assert release.local is not None
    assert release.local.clients == 3 and release.local.shape(6) == (2, 1)
    assert aggregated(gradient(quadratic), 3).local is None
    grads = aggregated(gradient(quadratic), 3)(KEY, WEIGHTS, batch)
    close(grads, jax.grad(quadratic)(WEIGHTS, batch), 1e-5)


def test_memory_grows_like_the_root_of_the_steps():
    width = 128
    weights = {"a": jnp.ones((width, width)), "b": jnp.ones((width, width))}

    def loss(params, batch):
        return jnp.mean((jnp.tanh(batch.inputs @ params["a"]) @ params["b"]) ** 2)

    def bytes_of(steps):
        release = fedavg(loss, 0.1, local_steps=steps)

        def total(x, params, observed):
            return matching.squared()(release(KEY, params, Batch(x, None)), observed)

        lowered = jax.jit(jax.grad(total)).lower(jnp.ones((1, width)), weights, weights)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    copy = sum(x.nbytes for x in jax.tree.leaves(weights))
    few, many = bytes_of(5), bytes_of(50)
    assert many < 4 * few
    # Kept flat, fifty copies and more; segments of seven or so keep about fifteen.
    assert many < 30 * copy


# What the server makes of it -----------------------------------------------------


def mlp_observation(num=3, grant=("labels", "local_training"), **options):
    target = models.build("mlp", SPEC, widths=(16,))
    params = target.init(KEY)
    release = fedavg(target.loss, 1e-3, **options)
    batch = numbers(num)
    return target, simulate(KEY, target, params, batch, release=release, grant=grant)


def test_new_weights_become_a_delta_once():
    target, delta = mlp_observation()
    params, update = delta.round(0)
    after = jax.tree.map(lambda p, u: np.float64(p) + np.float64(u), params, update)
    found = observe(params, after, num_examples=3, spec=SPEC, sent="weights")
    assert found.sent == delta.sent == "delta"
    close(found.round(0)[1], update, 1e-6)
    batch, release = numbers(3), fedavg(target.loss, 1e-3)
    rounded = simulate(KEY, target, params, batch, release=release, sent="weights")
    close(rounded.round(0)[1], update, 1e-3)
    # Float32 weights hold less of a small delta than the release computes.
    assert distance(rounded.round(0)[1], update) > 1e-8


def test_a_gradient_is_what_is_sent_unless_it_is_said():
    target = models.build("mlp", SPEC, widths=(16,))
    seen = simulate(KEY, target, target.init(KEY), numbers(2))
    assert seen.sent == "gradient" and seen.known.local_training is None
    assert mean_gradient(seen, who="this test") is not None


def test_what_was_sent_and_granted_is_static():
    _, seen = mlp_observation(grant=("local_training",))
    assert seen.known.granted() == ("local_training",)
    seen_too = mlp_observation(grant=("local_training",))[1]
    assert jax.tree.structure(seen) == jax.tree.structure(seen_too)
    assert hash(jax.tree.structure(seen)) == hash(jax.tree.structure(seen_too))
    told = jax.tree.map(lambda x: x, seen).known.local_training
    assert told == LocalTraining(1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_the_mean_gradient_is_read_from_a_delta(optimizer):
    """The better the shorter the training was."""
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    expected = jax.grad(quadratic)(WEIGHTS, batch)

    def error(rate):
        release = fedavg(quadratic, rate, local_steps=4, optimizer=optimizer)
        delta = release(KEY, WEIGHTS, batch)
        told = {"sent": "delta", "local_training": release.local}
        seen = observe(WEIGHTS, delta, num_examples=4, spec=FLAT, **told)
        return distance(mean_gradient(seen, who="this test"), expected)

    assert 5 * error(1e-3) < error(1e-2) < 0.02


def test_a_delta_without_its_training_is_refused_in_one_line():
    _, seen = mlp_observation(grant=("labels",))
    message = r"^local_training is needed and not granted \(granted: labels\)[^\n]*$"
    with pytest.raises(KnowledgeError, match=message):
        mean_gradient(seen, who="the rule")
    _, seen = mlp_observation(optimizer="adam")
    with pytest.raises(InputError, match="optimizer is 'adam'; expected 'sgd' or"):
        mean_gradient(seen, who="the rule")


@pytest.mark.parametrize("rule", LABEL_RULES)
def test_rules_read_a_delta_as_they_read_a_gradient(rule):
    num = 1 if rule == "idlg" else 4
    target, seen = mlp_observation(num, local_steps=4, batch_size=max(num // 2, 1))
    params, _ = seen.round(0)
    labels = jax.jit(label_rule(rule, target))
    plain = simulate(KEY, target, params, numbers(num), grant=())
    np.testing.assert_array_equal(labels(KEY, seen), labels(KEY, plain))
    # Read as it came, the delta says something else: its sign is the other one, which
    # iDLG, with its products of rows, does not see.
    raw = seen.replace(sent="gradient")
    assert (labels(KEY, raw) != labels(KEY, plain)).any() == (rule != "idlg")


def test_labels_are_recovered_from_a_delta():
    target, seen = mlp_observation(4, local_steps=4, batch_size=2)
    found = label_rule("analytic", target)(KEY, seen)
    np.testing.assert_array_equal(found, np.sort(numbers(4).labels))


def test_closed_forms_take_one_step_and_refuse_more():
    target, seen = mlp_observation(1)
    found = jax.jit(linear_layer(target))(KEY, seen)
    close(found.batch.inputs, numbers(1).inputs, 1e-3)
    np.testing.assert_array_equal(found.batch.labels, numbers(1).labels)
    assert found.score < 1e-6
    for options, steps in (
        ({"local_steps": 2}, "2 steps of 3"),
        ({"batch_size": 1, "local_steps": 1}, "1 steps of 1"),
    ):
        _, seen = mlp_observation(3, **options)
        with pytest.raises(InputError, match=f"^local_training has {steps} examples;"):
            exact_gradient(seen, who="rgap")


def smooth_target():
    def loss(params, batch):
        hidden = jnp.tanh(batch.inputs.reshape(len(batch.inputs), -1) @ params["a"])
        return cross_entropy(hidden @ params["b"] + params["c"], batch.labels)

    spec = Spec((4, 4, 1), 4)
    size = int(np.prod(spec.shape))

    def init(key):
        a, b, c = jax.random.split(key, 3)
        return {
            "a": 0.3 * jax.random.normal(a, (size, 32)),
            "b": 0.3 * jax.random.normal(b, (32, 4)),
            "c": 0.1 * jax.random.normal(c, (4,)),
        }

    return from_function(loss, spec, init=init)


@pytest.mark.parametrize(
    ("name", "options"), [("cosine_lbfgs", {"tv": 0.0}), ("dlg", {})]
)
def test_an_attack_finds_its_own_client_and_not_another(name, options):
    target = smooth_target()
    params = target.init(KEY)
    release = fedavg(target.loss, 1e-4, local_steps=4, batch_size=1)
    mine, other = (numbers(2, seed, target.spec) for seed in (1, 2))
    other = other._replace(labels=mine.labels)
    attack = build(name, target, release=release, num_steps=150, **options)
    # One start of DLG in three ends elsewhere, and rounding decides which.
    run = jax.jit(iterate(restarts(attack, 16, batch_size=16)))

    def error(batch):
        seen = simulate(KEY, target, params, batch, release=release)
        found = run(jax.random.key(3), seen)
        return float(jnp.mean((found.batch.inputs - mine.inputs) ** 2))

    own = error(mine)
    assert own < 1e-6
    assert error(other) > 1000 * own and error(other) > 0.05


def test_each_start_puts_recovered_labels_in_an_order_of_its_own():
    """Which labels met in which local step nobody told."""
    options = {"local_steps": 4, "batch_size": 2, "grant": ("local_training",)}
    target, seen = mlp_observation(4, **options)
    starts = jax.random.split(KEY, 20)
    init = quick(jax.vmap(cosine_lbfgs(target).init, (0, None)))
    given = init(starts, seen).given
    rule = label_rule("bias_corrected", target)(KEY, seen)
    np.testing.assert_array_equal(np.sort(given, 1), np.tile(np.sort(rule), (20, 1)))
    assert len(np.unique(given, axis=0)) > 3


# Bad input -----------------------------------------------------------------------

NAN = float("nan")
BAD = {
    "rate 0": ({"learning_rate": 0.0}, "learning_rate is 0.0; expected a positive"),
    "rate NaN": ({"learning_rate": NAN}, "learning_rate is nan; expected"),
    "rate infinite": ({"learning_rate": float("inf")}, "learning_rate is inf"),
    "rate text": ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected"),
    "rate bool": ({"learning_rate": True}, "learning_rate is True; expected"),
    "no step": ({"local_steps": 0}, "local_steps is 0; expected a positive integer"),
    "half a step": ({"local_steps": 2.5}, "local_steps is 2.5; expected"),
    "no epoch": ({"epochs": 0}, "epochs is 0; expected a positive integer"),
    "both": ({"epochs": 2, "local_steps": 3}, "epochs is 2 and local_steps 3;"),
    "size": ({"batch_size": -1}, "batch_size is -1; expected a positive integer"),
    "optimizer": ({"optimizer": "lion"}, "optimizer is 'lion'; expected one of sgd"),
    "momentum": ({"momentum": 1.0}, "momentum is 1.0; expected 0 to below 1"),
    "order": ({"order": "sorted"}, "order is 'sorted'; expected one of shuffled"),
    "order flat": ({"order": [0, 1]}, r"order is int64 of shape \(2,\); expected"),
    "order ragged": ({"order": [[0], [1, 2]]}, "order is ragged; expected integers"),
    "order floats": ({"order": [[0.0]]}, r"order is float64 of shape \(1, 1\);"),
    "order and steps": (
        {"order": [[0], [1]], "local_steps": 3},
        r"order has shape \(2, 1\); expected \(3, 1\), local_steps by",
    ),
    "route": ({"route": "sideways", "call": True}, "route is 'sideways'; expected"),
    "no divisor": (
        {"batch_size": 3, "call": True},
        "batch_size is 3; expected a divisor of the 4 examples",
    ),
    "order past": (
        {"order": [[0, 4]], "call": True},
        "order holds 4; expected 0 to 3 for 4 examples",
    ),
    "order below": (
        {"order": [[-1, 0]], "call": True},
        "order holds -1; expected 0 to 3 for 4 examples",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case):
    options, message = BAD[case]
    options = {"learning_rate": 0.1} | options
    call = options.pop("call", False)
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        release = fedavg(quadratic, **options)
        assert call
        release(KEY, WEIGHTS, batch)


def test_bad_batches_and_clients_are_named():
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    with pytest.raises(InputError, match="clients is 0; expected a positive integer"):
        aggregated(gradient(quadratic), 0)
    with pytest.raises(InputError, match="clients is 3; expected a divisor of the 4"):
        aggregated(gradient(quadratic), 3)(KEY, WEIGHTS, batch)
    uneven = Batch(batch.inputs, jnp.zeros(3))
    with pytest.raises(InputError, match="batch has leaves with first axes"):
        fedavg(quadratic, 0.1)(KEY, WEIGHTS, uneven)


def test_what_does_not_fit_together_is_refused():
    target, seen = mlp_observation()
    params, update = seen.round(0)
    given = {"params": params, "update": update, "num_examples": 3, "spec": SPEC}
    local = LocalTraining(0.1)
    for options, message in (
        ({"sent": "sums"}, "sent is 'sums'; expected one of gradient, delta, weights"),
        ({"local_training": local}, "local_training is given for a gradient;"),
        ({"sent": "delta", "local_training": 3}, "local_training is int; expected"),
        (
            {"sent": "delta", "local_training": LocalTraining(0.1, batch_size=2)},
            "batch_size is 2; expected a divisor of the 3 examples",
        ),
        (
            {
                "sent": "delta",
                "local_training": dataclasses.replace(local, clients=2),
            },
            "clients is 2; expected a divisor of the 3 examples",
        ),
    ):
        with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
            observe(**given, **options)
    with pytest.raises(InputError, match="local_training is granted, but this client"):
        simulate(KEY, target, params, numbers(3), grant=("local_training",))
