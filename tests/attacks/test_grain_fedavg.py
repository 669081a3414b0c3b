"""GRAIN on what several local steps send: exact where drift is small, or a status."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_graphs import LIMITS, drawn
from small_graphs import victim as networks

from jaxinv.attacks.grain import Certificate, Limits, grain
from jaxinv.attacks.grain.scoring import distances
from jaxinv.attacks.span import span
from jaxinv.errors import InputError, KnowledgeError
from jaxinv.fedavg import fedavg
from jaxinv.isomorphism import isomorphic
from jaxinv.local_training import LocalTraining
from jaxinv.observation import observe

SHORT = LIMITS._replace(seconds=0.1, candidates=2000)
"""Where there is nothing to find."""


pytestmark = pytest.mark.usefixtures("compiled_quickly")


def victim(task="graph"):
    return networks("gcn", task)[:2]


# A ring with a tail.
SECRET = drawn([0, 1, 2, 0, 1, 3], [(0, 1), (1, 2), (2, 3), (3, 0), (3, 4), (4, 5)])


@functools.cache
def sent(learning_rate, steps, **options):
    """What a client of the secret sends, and how it trained."""
    model, params = victim()
    release = fedavg(
        model.batch_loss, learning_rate, local_steps=steps, rewritten=False, **options
    )
    alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], SECRET)
    return jax.jit(release)(jax.random.key(0), params, alone), release.local


def attacked(delta, local, limits=LIMITS):
    model, params = victim()
    given = {"num_examples": 1, "spec": model.spec, "sent": "delta"}
    seen = observe(params, delta, local_training=local, **given)
    return grain(model, seen, limits=limits)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_several_steps_give_the_graph_away_as_one_does(optimizer):
    delta, local = sent(1e-3, 5, optimizer=optimizer)
    found = attacked(delta, local)
    assert found.certificate is Certificate.UNIQUE and found.distance < 1e-6
    assert isomorphic(SECRET, found.graph) and found.graph.labels == SECRET.labels


def test_a_candidate_is_judged_by_training_on_it():
    """A mean gradient is another than the one at the weights that were sent."""
    model, params = victim()
    delta, local = sent(1e-3, 5)
    mean = jax.tree.map(lambda leaf: -leaf / local.travel(1), delta)
    other = drawn([0, 1, 2, 0, 1, 3], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (4, 5)])
    trained = distances(model, params, mean, [SECRET, other], local)
    assert trained[0] < 1e-6 and trained[1] > 1e-3
    assert distances(model, params, mean, [SECRET])[0] > 1e-4


def test_long_training_ends_in_a_status_that_says_so():
    found = attacked(*sent(0.3, 10), SHORT)
    assert found.certificate is Certificate.GAVE_UP and found.graph is None
    assert found.reason.startswith("of 10 local steps: ") and "\n" not in found.reason


def test_a_wrong_step_size_gives_no_graph():
    delta, _ = sent(1e-3, 5)
    found = attacked(delta, LocalTraining(2e-3, 5), SHORT)
    assert found.certificate is Certificate.GAVE_UP


def test_what_must_be_known_of_the_training():
    delta, _ = sent(1e-3, 5)
    with pytest.raises(KnowledgeError, match="local_training is needed"):
        attacked(delta, None)
    with pytest.raises(InputError, match="optimizer is 'adam'; expected 'sgd'"):
        attacked(delta, LocalTraining(1e-3, 5, optimizer="adam"))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_passage_is_that_of_gradients_that_stay_the_same(steps, optimizer):
    local = LocalTraining(0.1, steps, optimizer=optimizer)
    places, shares = local.passage(1)
    transform = local.transformation()
    at, state, seen = jnp.zeros(()), transform.init(jnp.zeros(())), []
    for _ in range(steps):
        seen.append(float(at))
        move, state = transform.update(jnp.ones(()), state)
        at = optax.apply_updates(at, move)
    np.testing.assert_allclose(places, np.array(seen) / float(at), atol=1e-6)
    np.testing.assert_allclose(local.travel(1), -float(at), rtol=1e-6)
    # A gradient counts by as far as it alone would go.
    for index, share in enumerate(shares):
        at, state = jnp.zeros(()), transform.init(jnp.zeros(()))
        for step in range(steps):
            alone = jnp.asarray(float(step == index))
            move, state = transform.update(alone, state)
            at = optax.apply_updates(at, move)
        np.testing.assert_allclose(share * local.travel(1), -float(at), rtol=1e-5)


def test_a_floor_calls_what_is_below_it_noise():
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    values = np.r_[1, 0.1, 1e-5, 3e-6, 1e-12 * np.ones(26)]
    whole = span([(left * values) @ np.linalg.qr(rng.normal(size=(30, 30)))[0]])
    assert whole.rank == 4 and whole.above(0.0).rank == 4
    above = whole.above(1e-4)
    assert above.rank == 2 and above.noise == pytest.approx(1e-4, rel=0.01)
    assert above.excess(left[:, :2].T).max() <= 1 < above.excess(left[:, 5])
    # Of nothing but noise nothing is left to tell.
    assert whole.above(1.0).rank == 4
    assert span([np.zeros((5, 4))]).above(1e-4).rank == 0


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 0, 1, 1, 1]])
def test_a_ring_of_equal_nodes_with_labels_ends_with_its_seconds(labels):
    """Rings of all sizes have one gradient, and labels go round them in many ways."""
    model, params = victim("node")
    ring = drawn([0] * 6, [(i, (i + 1) % 6) for i in range(6)], np.array(labels))
    update = jax.jit(jax.grad(model.loss))(params, ring)
    seen = observe(params, update, num_examples=1, spec=model.spec)
    found = grain(model, seen, limits=Limits(seconds=0.3))
    assert found.certificate is not Certificate.UNIQUE and not found.complete
    assert found.seconds["assembly"] < 5
