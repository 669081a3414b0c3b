"""The mod on a client: what it sees by its place, what it attaches, when it refuses."""

import math

import jax
import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.clientapp.mod import LocalDpMod

from jaxinv import attacks
from jaxinv.errors import InputError
from jaxinv.flower import Audit, audit_mod, in_order
from jaxinv.flower.mod import IDENTIFIED, PSNR
from jaxinv.flower.reading import read_journals
from jaxinv.flower.record import row_of


def noise():
    # Noise of 0.05 on weights that move by about 0.01.
    return LocalDpMod(clipping_norm=10.0, sensitivity=1e-2, epsilon=1.0, delta=1e-5)


def weights(reply):
    return reply.content.array_records["arrays"].to_numpy_ndarrays()


def test_it_attaches_two_numbers_and_changes_nothing_else(world, tmp_path):
    entries = []
    mod = audit_mod(world.audit(), world.truth, out=tmp_path, on_entry=entries.append)
    node = world.nodes[1]
    _, plain = world.exchange(node)
    _, reply = world.exchange(node, [mod])
    metrics = reply.content.metric_records["metrics"]
    assert metrics["num-examples"] == 2 and metrics.keys() == {
        "num-examples",
        PSNR,
        IDENTIFIED,
    }
    assert metrics[PSNR] > 80 and metrics[IDENTIFIED] == 1
    jax.tree.map(np.testing.assert_array_equal, weights(plain), weights(reply))
    (entry,) = entries
    assert (entry.round, entry.node, entry.status) == (3, node, "OK")
    _, (journal,) = read_journals(tmp_path)
    assert journal.who == f"node-{node}" and journal.rows == [row_of(entry)]


def test_its_place_decides_what_it_audits(world):
    found = {}
    for place in ("outside", "inside"):
        audit = audit_mod(world.audit(), world.truth)
        mods = [audit, noise()] if place == "outside" else [noise(), audit]
        _, reply = world.exchange(world.nodes[0], mods)
        found[place] = reply.content.metric_records["metrics"][PSNR]
    assert found["outside"] < 15 and found["inside"] > 80


def test_other_messages_pass_untouched(world):
    def answered(message, context):
        return Message(message.content, reply_to=message)

    mod = audit_mod(world.audit(), world.truth)
    message, _ = world.exchange(world.nodes[0])
    message.metadata.message_type = "evaluate"
    context = world.grid().contexts[world.nodes[0]]
    reply = mod(message, context, answered)
    assert reply.content is message.content and "metrics" not in reply.content


def test_an_error_passes_untouched(world):
    mod = audit_mod(world.audit(), world.truth)
    message, _ = world.exchange(world.nodes[0])
    error = Message(Error(0, "no data"), reply_to=message)
    context = world.grid().contexts[world.nodes[0]]
    assert mod(message, context, lambda m, c: error) is error


@pytest.mark.parametrize(("limit", "refused"), [(40.0, True), (200.0, False)])
def test_it_refuses_what_gives_an_image_away(world, limit, refused):
    entries = []
    mod = audit_mod(
        world.audit(), world.truth, refuse_above=limit, on_entry=entries.append
    )
    _, reply = world.exchange(world.nodes[0], [mod])
    assert reply.has_error() == refused == entries[0].refused
    if refused:
        assert not reply.has_content()
        assert "the limit is 40.0 dB, nothing is sent" in reply.error.reason


@pytest.mark.parametrize("limit", [None, 40.0])
def test_an_audit_that_fails(world, limit):
    def truth(message, context):
        raise OSError("the disk is gone")

    entries = []
    mod = audit_mod(world.audit(), truth, refuse_above=limit, on_entry=entries.append)
    _, plain = world.exchange(world.nodes[0])
    _, reply = world.exchange(world.nodes[0], [mod])
    assert entries[0].status == "FAILED" and "the disk is gone" in entries[0].reason
    if limit is not None:
        # Who has a limit wants nothing sent that was not judged.
        assert reply.has_error() and "nothing is sent" in reply.error.reason
        return
    jax.tree.map(np.testing.assert_array_equal, weights(plain), weights(reply))
    metrics = reply.content.metric_records["metrics"]
    assert math.isnan(metrics[PSNR]) and math.isnan(metrics[IDENTIFIED])


def test_a_folder_that_cannot_be_written_costs_no_reply(world, tmp_path):
    folder = tmp_path / "out"
    mod = audit_mod(world.audit(), world.truth, out=folder)
    folder.write_text("in the way")
    _, reply = world.exchange(world.nodes[0], [mod])
    assert reply.content.metric_records["metrics"][PSNR] > 80


def test_it_may_keep_its_numbers_to_itself(world):
    mod = audit_mod(world.audit(), world.truth, attach=False)
    _, reply = world.exchange(world.nodes[0], [mod])
    assert set(reply.content.metric_records["metrics"]) == {"num-examples"}


def test_a_client_that_changes_what_it_was_sent(world):
    entries = []
    audit = audit_mod(world.audit(), world.truth, on_entry=entries.append)

    def overwriting(message, context, call_next):
        reply = call_next(message, context)
        message.content["arrays"] = reply.content.array_records["arrays"]
        return reply

    world.exchange(world.nodes[0], [audit, overwriting])
    assert entries[0].status == "OK" and entries[0].worst() > 80


def test_labels_that_the_attacker_is_told(world):
    attack = attacks.inverting_gradients(
        world.target, release=world.release, labels="known", num_steps=2
    )

    def made(**options):
        audit = Audit(
            attack, world.target.spec, to_params=in_order(world.params), num_restarts=2
        )
        entries = []
        mod = audit_mod(audit, world.truth, on_entry=entries.append, **options)
        world.exchange(world.nodes[0], [mod])
        return entries[0]

    assert made(labels_known=True).status == "OK"
    assert "labels is needed and not granted" in made().reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"truth": 3}, "truth is int"),
        ({"refuse_above": float("nan")}, "refuse_above is nan"),
        ({"refuse_above": "40"}, "refuse_above is '40'"),
        ({"refuse_above": True}, "refuse_above is True"),
        ({"out": ""}, "out is ''"),
    ],
)
def test_arguments_are_checked_when_the_mod_is_made(world, changes, words):
    options = {"truth": world.truth} | changes
    with pytest.raises(InputError, match=words):
        audit_mod(world.audit(), **options)
