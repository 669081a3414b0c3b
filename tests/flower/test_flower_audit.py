"""The audit of one reply: a planted secret, wrong replies, one program."""

import jax
import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

import jaxinv
from jaxinv import metrics
from jaxinv.attacks.base import Status
from jaxinv.errors import InputError
from jaxinv.flower import Audit, Entry, arrays_of
from jaxinv.flower.judge import judge


def replied(world, node):
    message, reply = world.exchange(node)
    return message.content.array_records["arrays"], reply.content


@pytest.mark.parametrize("client", [0, 1])
def test_what_a_client_sends_gives_its_images_away(world, client):
    node = world.nodes[client]
    before, content = replied(world, node)
    attempt = world.audit()(before, content, draw=(1, node))
    judged = judge(world.target.spec, world.data[node], attempt.found.batch)
    assert attempt.found.status == Status.OK and attempt.num_examples == 2
    assert min(judged.psnr) > 80 and judged.identified == 1
    assert attempt.found.score < 1e-6


@pytest.mark.parametrize("sent", ["delta", "gradient"])
def test_other_kinds_of_update(world, sent):
    node = world.nodes[0]
    update = world.train(jax.random.key(0), world.params, world.data[node])
    if sent == "gradient":
        update = jax.tree.map(lambda leaf: leaf / -0.1, update)
    metrics = MetricRecord({"num-examples": 2})
    content = RecordDict({"arrays": arrays_of(update), "metrics": metrics})
    local = None if sent == "gradient" else world.release.local
    attempt = world.audit(sent=sent, local_training=local)(
        arrays_of(world.params), content
    )
    judged = judge(world.target.spec, world.data[node], attempt.found.batch)
    assert min(judged.psnr) > 80


def test_a_wrong_reply_gives_nothing_away(world):
    # Weights that moved at random: nothing of any client is in them.
    before, content = replied(world, world.nodes[0])
    rng = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda p: p + rng.normal(0, 1e-3, p.shape).astype(np.float32), world.params
    )
    content["arrays"] = arrays_of(moved)
    attempt = world.audit()(before, content)
    judged = judge(world.target.spec, world.data[world.nodes[0]], attempt.found.batch)
    assert attempt.found.status == Status.GAVE_UP
    assert max(judged.psnr) < 15 and attempt.found.score > 0.5


def test_another_client_s_reply_gives_nothing_of_this_one_away(world):
    before, content = replied(world, world.nodes[1])
    found = world.audit()(before, content).found
    own = world.data[world.nodes[0]]
    judged = judge(
        world.target.spec, own, found.batch, world.data[world.nodes[1]].inputs
    )
    assert max(judged.psnr) < 15 and judged.identified == 0


def test_one_program_serves_clients_and_rounds(world):
    audit = world.audit(seed=1)
    first = audit(*replied(world, world.nodes[0]), draw=(1, 0))
    second = audit(*replied(world, world.nodes[1]), draw=(2, 1))
    assert first.compile_s > 0 == second.compile_s


@pytest.mark.parametrize("num", [0, -1, 2.5, float("nan"), float("inf"), 10**9, [2]])
def test_a_number_of_examples_that_cannot_be_is_refused(world, num):
    before, content = replied(world, world.nodes[0])
    content["metrics"] = MetricRecord({"num-examples": num})
    with pytest.raises(InputError, match="num-examples of the reply"):
        world.audit()(before, content)


def test_what_is_missing_is_named(world):
    before, content = replied(world, world.nodes[0])
    with pytest.raises(InputError, match="the client was sent no such record"):
        world.audit()(None, content)
    del content["metrics"]
    with pytest.raises(InputError, match="or set num_examples"):
        world.audit()(before, content)
    assert world.audit(num_examples=2)(before, content).num_examples == 2
    with pytest.raises(InputError, match="'weights'; the reply holds arrays"):
        world.audit(returned="weights")(before, content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"to_params": 3}, "to_params is int"),
        ({"sent": "both"}, "sent is 'both'"),
        ({"sent": "gradient"}, "local_training is given for a gradient"),
        ({"num_examples": 0}, "num_examples is 0"),
        ({"num_examples": 300}, "at most max_examples, 256"),
        ({"max_examples": 1.5}, "max_examples is 1.5"),
        ({"num_restarts": 0}, "num_restarts is 0"),
    ],
)
def test_arguments_are_checked_when_it_is_made(world, changes, words):
    with pytest.raises(InputError, match=words):
        world.audit(**changes)


def test_an_image_alone_is_not_told_from_itself(world):
    one = jax.tree.map(lambda leaf: leaf[:1], world.data[world.nodes[0]])
    assert np.isnan(judge(world.target.spec, one, one).identified)
    with pytest.raises(InputError, match="truth has inputs of shape"):
        judge(world.target.spec, one, world.data[world.nodes[0]])


def test_it_is_told_how_clients_train_or_refuses(world):
    before, content = replied(world, world.nodes[0])
    with pytest.raises(InputError, match="local_training is needed and not granted"):
        world.audit(local_training=None)(before, content)
    assert isinstance(world.audit(), Audit)


def test_a_verdict_is_the_worst_leak_of_an_entry():
    nan = float("nan")

    def verdict(psnr, ssim):
        return Entry(1, 2, "OK", psnr=psnr, ssim=ssim).verdict()

    assert verdict([9.0, 40.0], [nan, nan]) == "exact"
    assert verdict([9.0, 27.0], [0.1, 0.9]) == "recognisable"
    # A flat guess at a flat image has a high PSNR and no detail.
    assert verdict([40.0, nan], [0.1, nan]) == "nothing"
    assert Entry(1, 2, "OK", score=0.1).verdict() is None


def test_larger_images_have_a_structure_to_compare(world):
    spec = jaxinv.Spec((12, 12, 1), 5)
    inputs = np.random.default_rng(2).random((2, 12, 12, 1)).astype(np.float32)
    truth = jaxinv.Batch(inputs, np.zeros(2, np.int32))
    guess = truth._replace(inputs=inputs[::-1] * 0.9)
    found = judge(spec, truth, guess)
    assert found.ssim == pytest.approx(
        metrics.ssim(inputs, inputs * np.float32(0.9)).tolist(), abs=1e-5
    )
    assert min(found.psnr) > 20 and found.identified == 1
    one = judge(world.target.spec, *2 * [world.data[world.nodes[0]]])
    assert np.isnan(one.ssim).all() and one.psnr == pytest.approx([120, 120])
