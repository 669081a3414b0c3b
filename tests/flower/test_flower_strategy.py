"""The strategy around a strategy: the same federation, and an entry for each reply."""

import random

import jax
import numpy as np
import pytest
from flwr.app import MetricRecord
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
    FedAvgM,
)

from jaxinv.errors import InputError
from jaxinv.flower import AuditedStrategy, arrays_of, audit_mod
from jaxinv.flower.judge import judge
from jaxinv.flower.reading import read_journals
from jaxinv.flower.record import row_of


def fedavg(**options):
    return FedAvg(fraction_evaluate=0.0, **options)


def run(world, strategy, mods=None, num_rounds=3):
    # Which client comes first decides how a sum is rounded.
    random.seed(0)
    start = arrays_of(world.params)
    return strategy.start(world.grid(mods), start, num_rounds=num_rounds)


def same(one, other):
    arrays = (result.arrays.to_numpy_ndarrays() for result in (one, other))
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    assert one.train_metrics_clientapp == other.train_metrics_clientapp


@pytest.mark.parametrize("make", [fedavg, lambda: FedAvgM(fraction_evaluate=0.0)])
def test_the_federation_is_the_same_and_every_reply_is_audited(world, make, tmp_path):
    found = {}
    strategy = AuditedStrategy(
        make(),
        world.audit(seed=1),
        out=tmp_path,
        on_attempt=lambda entry, a: found.update({entry[:2]: a.found}),
    )
    same(run(world, strategy), run(world, make()))
    assert {e[:2] for e in strategy.entries} == {
        (r, node) for r in (1, 2, 3) for node in world.nodes
    }
    assert all(e.status == "OK" and e.psnr is None for e in strategy.entries)
    assert [e.compile_s > 0 for e in strategy.entries] == [True, *5 * [False]]
    # In the first round; training on two images soon leaves units to one of them.
    for node in world.nodes:
        batch = found[1, node].batch
        judged = judge(world.target.spec, world.data[node], batch)
        assert min(judged.psnr) > 80
    _, (journal,) = read_journals(tmp_path)
    assert journal.rows == [row_of(entry) for entry in strategy.entries]


def test_an_audit_that_fails_fails_no_round(world):
    def to_params(arrays):
        raise ZeroDivisionError("by nothing")

    strategy = AuditedStrategy(fedavg(), world.audit(to_params=to_params))
    same(run(world, strategy), run(world, fedavg()))
    assert len(strategy.entries) == 6
    reasons = {(e.status, e.reason) for e in strategy.entries}
    assert reasons == {("FAILED", "ZeroDivisionError: by nothing")}


def test_a_report_that_cannot_be_written_fails_no_round(world, tmp_path):
    folder = tmp_path / "out"
    strategy = AuditedStrategy(fedavg(), world.audit(), out=folder)
    folder.write_text("in the way")
    same(run(world, strategy), run(world, fedavg()))


def test_a_hostile_reply_is_an_entry(world):
    def boasting(message, context, call_next):
        reply = call_next(message, context)
        claims = MetricRecord({"num-examples": 10**15})
        reply.content["metrics"] = claims
        return reply

    strategy = AuditedStrategy(fedavg(), world.audit())
    run(world, strategy, [boasting], num_rounds=1)
    assert all("expected 1 to max_examples, 256" in e.reason for e in strategy.entries)


def test_a_client_that_refuses_is_an_entry(world):
    mod = audit_mod(world.audit(), world.truth, refuse_above=40.0)
    strategy = AuditedStrategy(fedavg(), world.audit())
    result = run(world, strategy, [mod], num_rounds=1)
    assert {e.status for e in strategy.entries} == {"NOT_SENT"}
    assert all("nothing is sent" in e.reason for e in strategy.entries)
    assert len(result.arrays) == 0 and not result.train_metrics_clientapp


def test_every_other_round(world):
    strategy = AuditedStrategy(fedavg(), world.audit(), every=2)
    run(world, strategy)
    assert [e.round for e in strategy.entries] == [1, 1, 3, 3]


def test_around_a_strategy_that_wraps_another(world):
    inner = DifferentialPrivacyClientSideFixedClipping(
        fedavg(), noise_multiplier=0.0, clipping_norm=1e-3, num_sampled_clients=2
    )
    strategy = AuditedStrategy(inner, world.audit())
    run(world, strategy, [fixedclipping_mod], num_rounds=1)
    # Clipping changes the length alone, and with one factor for all numbers the
    # ratio that the closed form reads stays.
    assert {e.status for e in strategy.entries} == {"OK"}
    assert strategy.clipping_norm == 1e-3 and strategy.strategy is inner


def test_an_attribute_that_nobody_has(world):
    strategy = AuditedStrategy(fedavg(), world.audit())
    with pytest.raises(AttributeError, match="nowhere"):
        strategy.nowhere  # noqa: B018


class OwnLoop(FedAvg):
    def start(self, *args, **kwargs):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": 3}, "strategy is int"),
        ({"strategy": OwnLoop()}, "which has its own start"),
        ({"every": 0}, "every is 0"),
        ({"out": "\0"}, "out is"),
    ],
)
def test_arguments_are_checked_when_it_is_made(world, changes, words):
    options = {"strategy": fedavg(), "audit": world.audit()} | changes
    with pytest.raises(InputError, match=words):
        AuditedStrategy(**options)
