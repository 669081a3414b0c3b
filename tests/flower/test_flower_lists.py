"""A client written against lists of arrays: names, types and shapes are lost."""

import jax
import numpy as np
from flwr.app import Message
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import Code, FitIns, ndarrays_to_parameters
from flwr.compat.common.recorddict_compat import fitins_to_recorddict

from jaxinv.flower import audit_mod, in_order


def test_a_numpy_client_is_audited(world):
    node, leaves = world.nodes[0], jax.tree.leaves(world.params)
    structure = jax.tree.structure(world.params)

    class Client(NumPyClient):
        def fit(self, parameters, config):
            params = jax.tree.unflatten(structure, parameters)
            delta = world.train(jax.random.key(0), params, world.data[node])
            after = jax.tree.map(np.add, params, delta)
            return [np.asarray(leaf) for leaf in jax.tree.leaves(after)], 2, {}

    audit = world.audit(
        to_params=in_order(world.params),
        arrays="fitins.parameters",
        returned="fitres.parameters",
        metrics="fitres.num_examples",
        weighted_by="num_examples",
    )
    entries = []
    mod = audit_mod(audit, world.truth, on_entry=entries.append)
    grid = world.grid()
    app = ClientApp(lambda context: Client().to_client(), mods=[mod])
    sent = ndarrays_to_parameters([np.asarray(leaf) for leaf in leaves])
    content = fitins_to_recorddict(FitIns(sent, {"server-round": 4}), keep_input=True)
    message = Message(content, dst_node_id=node, message_type="train")
    reply = app(message, grid.contexts[node])
    status = reply.content.config_records["fitres.status"]["code"]
    assert status == Code.OK.value
    (entry,) = entries
    assert (entry.round, entry.status, entry.num_examples) == (4, "OK", 2)
    assert min(entry.psnr) > 80 and entry.verdict() == "exact"
