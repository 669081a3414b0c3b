"""A Flower grid whose clients live in this process: real messages, no sockets.

What it takes away is what a federation spends on processes and polling, so that the
cost of an audit can be seen beside that of a round.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from jaxinv.flower import arrays_of, in_order
from jaxinv.flower.arrays import read_arrays
from jaxinv.target import Batch, Params


def client_app(
    release: Callable[..., Any],
    like: Params,
    data: Mapping[int, Batch],
    *,
    mods: list[Mod] | None = None,
) -> ClientApp:
    """Clients that train by `release` and return their weights.

    Args:
      release: that makes a delta of the weights, compiled.
      like: parameters of the model's structure.
      data: the batch of each node.
      mods: of the app.
    """
    app, to_params = ClientApp(mods=mods), in_order(like)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        params = to_params(read_arrays(message.content.array_records["arrays"]))
        batch = data[context.node_id]
        delta = release(jax.random.key(0), params, batch)
        weights = jax.tree.map(np.add, params, delta)
        metrics = MetricRecord({"num-examples": len(batch.labels)})
        content = RecordDict({"arrays": arrays_of(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


class InProcessGrid(Grid):
    """Calls the clients' app one after the other."""

    def __init__(self, app: ClientApp, nodes: Iterable[int]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self._app = app
        self.contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={},
                state=RecordDict(),
                run_config={},
                series_id=1,
            )
            for node in nodes
        }

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        # A generator, as a strategy may only walk through replies once.
        for message in messages:
            node = message.metadata.dst_node_id
            # A client has its own copy of what it was sent.
            yield self._app(copy.deepcopy(message), self.contexts[node])

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError
