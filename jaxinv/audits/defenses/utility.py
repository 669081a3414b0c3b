"""What a defence costs: the accuracy of a model whose every update went through it.

Federated training by FedOpt (Reddi et al., "Adaptive Federated Optimization", ICLR
2021, arXiv 2003.00295): in every round each client sends one update of a random part of
its own examples, the server steps along their mean by Adam, whose step does not depend
on the updates' scale. So a defence that shortens updates is not charged for a learning
rate that nobody would keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxinv.audits.settings import check_whole
from jaxinv.errors import InputError
from jaxinv.release import Release, trained
from jaxinv.target import Batch, Params, Target, Variables


@dataclass(frozen=True)
class Training:
    """How a federation trains.

    Attributes:
      rounds: how many the server runs.
      clients: how many take part in each of them, all the federation has.
      batch_size: examples behind each client's update.
      learning_rate: of the server's Adam at the start; it falls to 0 as a cosine.
      protected_rounds: how many rounds from the first on go through the defence; None
        is all of them. After those the clients send what they have.
      evaluations: how often the accuracy is taken at most, evenly spaced, the last at
        the end.
      seeds: trainings, each with its own start, shares and draws.
    """

    rounds: int = 400
    clients: int = 4
    batch_size: int = 16
    learning_rate: float = 3e-3
    protected_rounds: int | None = None
    evaluations: int = 10
    seeds: int = 3

    def __post_init__(self) -> None:
        lowest = {"rounds": 1, "clients": 1, "batch_size": 1, "evaluations": 1}
        check_whole(self, {**lowest, "seeds": 1})
        if self.protected_rounds is not None:
            check_whole(self, {"protected_rounds": 0})
        if not self.learning_rate > 0:
            raise InputError(
                f"learning_rate is {self.learning_rate}; expected a positive number"
            )

    def share(self, num_examples: int) -> int:
        """How many of all examples each client holds.

        Raises:
          InputError: fewer than a batch.
        """
        share = num_examples // self.clients
        if share < self.batch_size:
            raise InputError(
                f"batch_size is {self.batch_size}; a client has {share} examples "
                f"({num_examples} for {self.clients} clients)"
            )
        return share

    def ends(self) -> list[int]:
        """After how many rounds the accuracy is taken; equal parts, for one program."""
        most = min(self.evaluations, self.rounds)
        parts = max(n for n in range(1, most + 1) if self.rounds % n == 0)
        return [self.rounds // parts * (i + 1) for i in range(parts)]


class Utility(NamedTuple):
    """What came of training."""

    accuracy: jax.Array
    """`[seeds, evaluations]`, share of the test examples that are classified right."""
    rounds: jax.Array
    """`[evaluations]`, after how many rounds."""
    params: Params
    """Of the last seed, at the end."""


def utility(
    key: jax.Array,
    target: Target,
    release: Release,
    train: Batch,
    test: Batch,
    training: Training,
    *,
    plain: Release | None = None,
) -> Utility:
    """Trains under a release, once for each seed, and takes the accuracy.

    Running statistics of batch norm stay as they are at the start.

    Args:
      key: split into one for each seed; equal keys give equal starts and shares, so
        that two defences differ by what they do alone.
      target: the model, with a probe.
      release: what every client does in the protected rounds.
      train: all clients' examples, `[N, ...]`; each client has an equal share.
      test: examples nobody trains on.
      training: how.
      plain: what clients do afterwards; needed where `protected_rounds` is given.

    Raises:
      InputError: a client's share holds less than a batch, the target has no probe, or
        `plain` is missing.
    """
    training.share(len(train.inputs))
    if target.probe is None:
        raise InputError("target has no probe; utility expects one, for its logits")
    if training.protected_rounds is not None and plain is None:
        raise InputError("plain is None; expected the release of unprotected rounds")
    ends = training.ends()
    one = jax.jit(
        lambda key: _train(key, target, release, plain, train, test, training)
    )
    found = [one(k) for k in jax.random.split(key, training.seeds)]
    accuracy = jnp.stack([accuracy for accuracy, _ in found])
    return Utility(accuracy, jnp.asarray(ends), found[-1][1])


def _train(key, target, release, plain, train, test, training):
    of_start, of_shares, of_rounds = jax.random.split(key, 3)
    params = target.init(of_start)
    share = training.share(len(train.inputs))
    order = jax.random.permutation(of_shares, len(train.inputs))
    shares = order[: share * training.clients].reshape(training.clients, share)
    adam = optax.adam(
        optax.cosine_decay_schedule(training.learning_rate, training.rounds)
    )
    protected = training.protected_rounds

    def one_round(carry, number):
        params, state = carry

        def client(pair):
            of_client, mine = pair
            of_batch, of_release = jax.random.split(of_client)
            chosen = jax.random.choice(
                of_batch, mine, (training.batch_size,), replace=False
            )
            batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], train)
            if protected is None:
                return release(of_release, params, batch)
            return jax.lax.cond(
                number < protected,
                lambda: release(of_release, params, batch),
                lambda: plain(of_release, params, batch),
            )

        keys = jax.random.split(jax.random.fold_in(of_rounds, number), training.clients)
        updates = jax.lax.map(client, (keys, shares))
        mean = jax.tree.map(lambda leaf: leaf.mean(0), updates)
        if getattr(release, "local", None) is not None:
            # A delta of weights points the way to go, a gradient the way back.
            mean = jax.tree.map(jnp.negative, mean)
        weights = trained(params)
        steps, state = adam.update(mean, state, weights)
        weights = optax.apply_updates(weights, steps)
        if isinstance(params, Variables):
            return (Variables(weights, params.state), state), None
        return (weights, state), None

    def segment(carry, numbers):
        carry, _ = jax.lax.scan(one_round, carry, numbers)
        return carry, _accuracy(target, carry[0], test)

    numbers = jnp.arange(training.rounds).reshape(len(training.ends()), -1)
    start = params, adam.init(trained(params))
    (params, _), accuracy = jax.lax.scan(segment, start, numbers)
    return accuracy, params


def _accuracy(target: Target, params: Params, test: Batch) -> jax.Array:
    probe = target.probe
    assert probe is not None

    def right(example):
        one = jax.tree.map(lambda leaf: leaf[None], example)
        return probe(params, one).logits[0].argmax() == example.labels

    return jax.lax.map(right, jax.tree.map(jnp.asarray, test), batch_size=128).mean()
