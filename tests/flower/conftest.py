"""A small federation: two clients of two images, real messages, one process."""

import importlib.util
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinv
from jaxinv import attacks, models
from jaxinv.target import Batch

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"

NODES = (7, 2**63 + 5)
"""Flower's node numbers use all 64 bits."""

collect_ignore_glob = [] if importlib.util.find_spec("flwr") else ["test_flower_[!w]*"]


class World(NamedTuple):
    """What a test of the federation needs."""

    target: Any
    params: Any
    data: dict[int, Batch]
    train: Any
    release: Any
    made: list
    nodes: tuple[int, int] = NODES

    def audit(self, **changes):
        """An audit by the closed form; without changes the same one, compiled once."""
        from jaxinv.flower import Audit, in_order

        options = {
            "to_params": in_order(self.params),
            "local_training": self.release.local,
        }
        attack = attacks.linear_layer(self.target)
        if changes:
            return Audit(attack, self.target.spec, **(options | changes))
        if not self.made:
            self.made.append(Audit(attack, self.target.spec, **options))
        return self.made[0]

    def grid(self, mods=None):
        """A grid of the two clients."""
        from bench.in_process_grid import InProcessGrid, client_app

        app = client_app(self.train, self.params, self.data, mods=mods)
        return InProcessGrid(app, self.data)

    def truth(self, message, context):
        """What a client trained on."""
        return self.data[context.node_id]

    def exchange(self, node, mods=None):
        """One message to a client, and its reply."""
        from flwr.app import ConfigRecord, Message, RecordDict

        from jaxinv.flower import arrays_of

        # A message carries the identity that a grid gives this process.
        grid = self.grid(mods)
        config = ConfigRecord({"server-round": 3})
        records = {"arrays": arrays_of(self.params), "config": config}
        content = RecordDict(records)
        message = Message(content, dst_node_id=node, message_type="train")
        return message, next(iter(grid.send_and_receive([message])))


@pytest.fixture(scope="module")
def world():
    target = models.build("mlp", jaxinv.Spec((6, 6, 1), 5), widths=(128,))
    rng = np.random.default_rng(0)
    data = {
        node: Batch(
            jnp.asarray(rng.random((2, 6, 6, 1)), jnp.float32),
            jnp.asarray(rng.integers(0, 5, 2)),
        )
        for node in NODES
    }
    release = jaxinv.fedavg(target.loss, 0.1, local_steps=1)
    params = jax.jit(target.init)(jax.random.key(0))
    return World(target, params, data, jax.jit(release), release, [])
