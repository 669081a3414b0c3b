"""The game, step by step, and the inverter that is trained when it is over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.defenses.learned_perturbation import (
    Design,
    InverterDesign,
    Rates,
    Weights,
    best_response,
    features,
    fresh,
    fresh_inverter,
    inverted,
    minimax,
    perturbed,
    pretrain,
)
from jaxinv.defenses.learned_perturbation.game import rules, with_shift
from jaxinv.defenses.learned_perturbation.inverter import flat
from jaxinv.defenses.learned_perturbation.perturber import decode, encode
from jaxinv.errors import InputError
from jaxinv.models import build
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, Variables, cross_entropy

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
SPEC = Spec((8, 8, 1), 3, (0.5,), (0.25,))
TARGET = build("mlp", SPEC, widths=(16,))
PARAMS = TARGET.init(KEY)


def ramps(key, count):
    """Images that are brighter to one side; the class says how bright they are."""
    of_way, of_level = jax.random.split(key)
    way = 2 * jax.random.normal(of_way, (count, 2, 1, 1))
    level = jax.random.uniform(of_level, (count,), minval=-3.0, maxval=3.0)
    rows, columns = (jnp.mgrid[0:8, 0:8] - 3.5) / 3.5
    slope = way[:, 0] * rows + way[:, 1] * columns
    pixels = jax.nn.sigmoid(slope + level[:, None, None])[..., None]
    return Batch(SPEC.normalise(pixels), jnp.floor((level + 3) / 2.001).astype(int))


DATA = ramps(jax.random.key(1), 96)
PIXELS = SPEC.denormalise(DATA.inputs)
CAP = float(jnp.mean((PIXELS - PIXELS.mean(0)) ** 2))
CLIENTS = jax.tree.map(lambda x: x[:12], DATA)
DESIGN = InverterDesign(TARGET.spec, hidden=32, width=4)
HARD = Weights(rec=1e3, adv=0.0, latent=0.0, clean=1.0)
NOTHING = Weights(rec=0.0, adv=0.0, latent=0.0, clean=0.0)
WEIGHT = jax.random.normal(KEY, (64, 3)) / 8
slope = jax.jit(jax.grad(TARGET.loss))
loss = jax.jit(TARGET.loss)
moved = jax.jit(perturbed)
guess = jax.jit(
    lambda inverter, update: inverted(inverter, features(inverter, update)[None])
)


def judge(pixels):
    return pixels.reshape(-1, 64) @ WEIGHT


@jax.jit
def answered(loudness):
    """A best response to gradients, this many times as large."""
    plain = gradient(TARGET.loss)

    def release(key, params, batch):
        return jax.tree.map(lambda g: loudness * g, plain(key, params, batch))

    sizes = {"num_steps": 300, "num_coordinates": 400, "learning_rate": 2e-3}
    return best_response(KEY, DESIGN, release, PARAMS, DATA, **sizes)


@pytest.fixture(scope="module")
def players():
    """A pre-trained autoencoder, and an inverter that has learned a little."""
    design = Design(SPEC.shape, SPEC.mean, SPEC.std, width=8, latent=4, noise=1)
    start = fresh(KEY, design, eps=1.0)
    fit = jax.jit(
        lambda p: pretrain(KEY, p, DATA.inputs, num_steps=300, learning_rate=1e-2)
    )
    perturber, errors = fit(start)
    inverter, error = answered(1.0)
    return start, perturber, errors, inverter, error


def guesses(perturber, inverter):
    """What the inverter makes of the clients, one after the other."""
    made = moved(perturber, KEY, CLIENTS.inputs).inputs
    each = [
        guess(inverter, slope(PARAMS, Batch(x[None], y[None])))
        for x, y in zip(made, CLIENTS.labels, strict=True)
    ]
    return jnp.concatenate(each)


def error_of(perturber, inverter):
    return float(jnp.mean((guesses(perturber, inverter) - PIXELS[:12]) ** 2))


@functools.cache
def program(weights, judged=False):
    """One step for all players, compiled; the cap is an argument."""
    whole = {"judge": judge if judged else None, "weights": weights}

    def step(cap, perturber, inverter):
        played = rules(TARGET, PARAMS, cap, **whole)
        start = played.start(perturber, inverter, PARAMS)
        return start, *played.step(start, KEY, CLIENTS)

    return jax.jit(step)


def shift_of(game):
    return np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(game.perturber.params["shift"])]
    )


def test_the_autoencoder_is_fitted_and_the_scale_is_the_latents(players):
    start, perturber, errors, *_ = players
    assert errors.shape == (300,)
    assert float(errors[-20:].mean()) < 0.4 * CAP < float(errors[0])
    latents = encode(perturber, DATA.inputs)
    off = jnp.mean((SPEC.denormalise(decode(perturber, latents)) - PIXELS) ** 2)
    assert float(off) == pytest.approx(float(errors[-20:].mean()), rel=0.3)
    np.testing.assert_allclose(perturber.scale, latents.std((0, 1, 2)), rtol=1e-3)
    same = perturber.params["shift"], start.params["shift"]
    for a, b in zip(*map(jax.tree.leaves, same), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_moves_every_player_its_own_way(players):
    _, perturber, _, inverter, _ = players
    start, after, trace = program(HARD)(CAP, perturber, inverter)
    before = error_of(perturber, inverter)
    assert float(trace.inverted) == pytest.approx(before, rel=1e-3)
    # psi lowers the inverter's error, phi raises it for this very inverter.
    answer = error_of(perturber, after.inverter)
    assert answer < before - 1e-5
    # A fifth of the way there: Adam's whole first step is longer than a slope holds.
    part = jax.tree.map(
        lambda a, b: a + 0.2 * (b - a),
        *(game.perturber.params["shift"] for game in (start, after)),
    )
    assert error_of(with_shift(perturber, part), after.inverter) > answer + 1e-5
    # theta learns from both kinds of images.
    made = moved(perturber, KEY, CLIENTS.inputs)
    for inputs, told in (
        (made.inputs, trace.perturbed_loss),
        (CLIENTS.inputs, trace.clean_loss),
    ):
        batch = Batch(inputs, CLIENTS.labels)
        assert float(loss(PARAMS, batch)) == pytest.approx(float(told), rel=1e-3)
        assert float(loss(after.params, batch)) < float(told)
    # The autoencoder is not touched.
    for net in ("encoder", "decoder"):
        same = (game.perturber.params[net] for game in (start, after))
        for a, b in zip(*map(jax.tree.leaves, same), strict=True):
            np.testing.assert_array_equal(a, b)
    off = jnp.mean((SPEC.denormalise(made.inputs) - PIXELS[:12]) ** 2)
    assert float(trace.moved) == pytest.approx(float(off), rel=1e-3)
    used = jnp.mean((made.delta / (perturber.eps * perturber.scale)) ** 2)
    assert float(trace.delta) == pytest.approx(float(jnp.sqrt(used)), rel=1e-3)


def test_phi_has_nothing_to_move_where_the_bound_is_zero(players):
    _, perturber, _, inverter, _ = players
    bare = perturber.replace(eps=jnp.zeros(()))
    _, after, trace = program(HARD)(CAP, bare, inverter)
    assert float(trace.delta) == 0
    np.testing.assert_array_equal(
        shift_of(after), shift_of(after._replace(perturber=bare))
    )


def test_beyond_the_mean_image_nothing_is_to_be_gained(players):
    _, perturber, _, inverter, _ = players
    _, clipped, _ = program(HARD)(1e-9, perturber, inverter)
    _, without, trace = program(NOTHING)(CAP, perturber, inverter)
    _, reached, _ = program(HARD)(CAP, perturber, inverter)
    np.testing.assert_allclose(shift_of(clipped), shift_of(without), atol=2e-4)
    assert np.abs(shift_of(reached) - shift_of(without)).max() > 1e-3
    # What is left is the use to the model.
    inputs = moved(without.perturber, KEY, CLIENTS.inputs).inputs
    useful = float(loss(PARAMS, Batch(inputs, CLIENTS.labels)))
    assert useful < float(trace.perturbed_loss)


def test_a_step_of_phi_raises_the_judges_error(players):
    _, perturber, _, inverter, _ = players
    hard = Weights(rec=0.0, adv=1e3, latent=0.0, clean=0.0)
    _, after, _ = program(hard, judged=True)(CAP, perturber, inverter)
    wrong = [
        float(cross_entropy(judge(guesses(one, after.inverter)), CLIENTS.labels))
        for one in (perturber, after.perturber)
    ]
    assert wrong[1] > wrong[0] + 1e-4


def test_the_game_is_its_steps_and_theta_goes_back_to_where_it_started(players):
    _, perturber, _, inverter, _ = players
    options = {
        "weights": Weights(rec=2.0),
        "rates": Rates(1e-3, 2e-3, 3e-3),
        "reset_every": 3,
    }
    game, trace = jax.jit(
        lambda *players: minimax(
            KEY, *players, TARGET, PARAMS, DATA, num_steps=4, batch_size=5, **options
        )
    )(perturber, inverter)
    played = rules(TARGET, PARAMS, CAP, **options)
    step, state = jax.jit(played.step), played.start(perturber, inverter, PARAMS)
    for i, key in enumerate(jax.random.split(KEY, 4)):
        of_batch, of_noise = jax.random.split(key)
        chosen = jax.random.randint(of_batch, (5,), 0, 96)
        state, told = step(state, of_noise, jax.tree.map(lambda x: x[chosen], DATA))
        assert float(told.inverted) == pytest.approx(float(trace.inverted[i]), rel=1e-3)
        apart = [
            float(jnp.abs(a - b).max())
            for a, b in zip(*map(jax.tree.leaves, (state.params, PARAMS)), strict=True)
        ]
        assert (max(apart) == 0) == (i == 2)
        assert int(state.moments[2][0].count) == (i + 1) % 3
    assert int(game.step) == 4 and trace.inverted.shape == (4,)
    for a, b in zip(*map(jax.tree.leaves, (game.params, state.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_best_response_learns_from_gradients_and_nothing_from_zeros(players):
    *_, error = players
    assert float(error[-30:].mean()) < 0.5 * CAP
    assert float(answered(0.0)[1][-30:].mean()) > 0.8 * CAP


def test_an_inverter_reads_the_output_layer_and_a_random_part_of_the_rest():
    updates = jax.tree.map(lambda w: jnp.stack([w, 1 + w]), PARAMS)
    design = InverterDesign(TARGET.spec, hidden=8, width=4)
    made = fresh_inverter(KEY, design, PARAMS, updates, PIXELS, num_coordinates=50)
    read = np.asarray(made.coordinates)
    assert len(set(read.tolist())) == len(read) == 50 + 16 * 3 + 3
    head = jax.tree.map(jnp.zeros_like, PARAMS)
    path = TARGET.spec.head[0]
    head[path] = jax.tree.map(jnp.ones_like, head[path])
    where = np.flatnonzero(flat(head))
    assert set(where) <= set(read.tolist())
    whole = fresh_inverter(KEY, design, PARAMS, updates, PIXELS, num_coordinates=10**6)
    assert len(whole.coordinates) == flat(PARAMS).size
    # The size of an update is told apart from its direction.
    one, ten = (
        features(made, jax.tree.map(lambda w: c * w, PARAMS)) for c in (1.0, 10.0)
    )
    np.testing.assert_allclose(one[:-1], ten[:-1], rtol=1e-4, atol=1e-5)
    assert float(ten[-1] - one[-1]) == pytest.approx(np.log(10), rel=1e-5)
    nothing = features(made, jax.tree.map(jnp.zeros_like, PARAMS))
    assert np.isfinite(nothing).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p, i: Weights(rec=-1.0), r"weights.rec is -1.0; expected a number"),
        (lambda p, i: Rates(phi="fast"), r"rates.phi is 'fast'; expected a number"),
        (
            lambda p, i: rules(TARGET._replace(probe=None), PARAMS, CAP),
            "target has no probe",
        ),
        (
            lambda p, i: rules(TARGET, PARAMS, CAP, reset_every=0),
            "reset_every is 0; expected a positive integer",
        ),
        (
            lambda p, i: rules(TARGET, Variables(PARAMS, {}), CAP),
            "params are Variables; the game expects",
        ),
        (
            lambda p, i: minimax(KEY, p, i, TARGET, PARAMS, DATA, num_steps=0),
            "num_steps is 0; expected a positive integer",
        ),
        (
            lambda p, i: pretrain(KEY, p, DATA.inputs, batch_size=0),
            "batch_size is 0; expected a positive integer",
        ),
        (
            lambda p, i: best_response(
                KEY, i.design, gradient(TARGET.loss), PARAMS, DATA, num_probes=0
            ),
            "num_probes is 0; expected a positive integer",
        ),
    ],
)
def test_bad_arguments_are_named(players, make, words):
    with pytest.raises(InputError, match=words):
        make(players[1], players[3])
