"""The client: one step on four digits, audited before it is sent."""

from __future__ import annotations

import jax
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod

from digits_app.task import RELEASE, audit, batch_of, initial, others
from jaxinv import flower
from jaxinv.cache import use_cache
from jaxinv.flower.arrays import read_arrays
from jaxinv.flower.mod import round_of

# Flower starts a process for each message; only a cache on disk spares it compiling.
use_cache()


def truth(message: Message, context: Context):
    """What this client trains on in the round of this message."""
    return batch_of(int(context.node_config["partition-id"]), round_of(message))


def audited(message: Message, context: Context, call_next) -> Message:
    """The audit, whose folder comes with the run."""
    out = context.run_config["out"] or None
    mod = flower.audit_mod(audit(), truth, pool=others(), out=out)
    return mod(message, context, call_next)


def private(message: Message, context: Context, call_next) -> Message:
    """Flower's local differential privacy, where the run asks for it."""
    epsilon = float(context.run_config["epsilon"])
    if not epsilon:
        return call_next(message, context)
    return LocalDpMod(1.0, 2.0, epsilon, 1e-5)(message, context, call_next)


# The audit stands outside: it sees what leaves the device.
app = ClientApp(mods=[audited, private])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains from the weights that were sent and returns the new ones."""
    to_params = flower.in_order(initial())
    params = to_params(read_arrays(message.content.array_records["arrays"]))
    batch = truth(message, context)
    delta = jax.jit(RELEASE)(jax.random.key(0), params, batch)
    weights = jax.tree.map(lambda p, d: p + d, params, delta)
    metrics = MetricRecord({"num-examples": len(batch.labels)})
    content = RecordDict({"arrays": flower.arrays_of(weights), "metrics": metrics})
    return Message(content, reply_to=message)
