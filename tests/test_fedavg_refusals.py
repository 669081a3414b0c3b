"""Bad arguments of local training are refused in one line."""

import dataclasses

import jax.numpy as jnp
import pytest
from fedavg_clients import (
    FLAT,
    KEY,
    SPEC,
    WEIGHTS,
    mlp_observation,
    numbers,
    quadratic,
)

from jaxinv.client import simulate
from jaxinv.errors import InputError
from jaxinv.fedavg import aggregated, fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch

NAN = float("nan")
BAD = {
    "rate 0": ({"learning_rate": 0.0}, "learning_rate is 0.0; expected a positive"),
    "rate NaN": ({"learning_rate": NAN}, "learning_rate is nan; expected"),
    "rate infinite": ({"learning_rate": float("inf")}, "learning_rate is inf"),
    "rate text": ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected"),
    "rate bool": ({"learning_rate": True}, "learning_rate is True; expected"),
    "no step": ({"local_steps": 0}, "local_steps is 0; expected a positive integer"),
    "half a step": ({"local_steps": 2.5}, "local_steps is 2.5; expected"),
    "no epoch": ({"epochs": 0}, "epochs is 0; expected a positive integer"),
    "both": ({"epochs": 2, "local_steps": 3}, "epochs is 2 and local_steps 3;"),
    "size": ({"batch_size": -1}, "batch_size is -1; expected a positive integer"),
    "optimizer": ({"optimizer": "lion"}, "optimizer is 'lion'; expected one of sgd"),
    "momentum": ({"momentum": 1.0}, "momentum is 1.0; expected 0 to below 1"),
    "order": ({"order": "sorted"}, "order is 'sorted'; expected one of shuffled"),
    "order flat": ({"order": [0, 1]}, r"order is int64 of shape \(2,\); expected"),
    "order ragged": ({"order": [[0], [1, 2]]}, "order is ragged; expected integers"),
    "order floats": ({"order": [[0.0]]}, r"order is float64 of shape \(1, 1\);"),
    "order and steps": (
        {"order": [[0], [1]], "local_steps": 3},
        r"order has shape \(2, 1\); expected \(3, 1\), local_steps by",
    ),
    "route": ({"route": "sideways", "call": True}, "route is 'sideways'; expected"),
    "no divisor": (
        {"batch_size": 3, "call": True},
        "batch_size is 3; expected a divisor of the 4 examples",
    ),
    "order past": (
        {"order": [[0, 4]], "call": True},
        "order holds 4; expected 0 to 3 for 4 examples",
    ),
    "order below": (
        {"order": [[-1, 0]], "call": True},
        "order holds -1; expected 0 to 3 for 4 examples",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case):
    options, message = BAD[case]
    options = {"learning_rate": 0.1} | options
    call = options.pop("call", False)
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        release = fedavg(quadratic, **options)
        assert call
        release(KEY, WEIGHTS, batch)


def test_bad_batches_and_clients_are_named():
    batch = Batch(numbers(4, spec=FLAT).inputs, None)
    with pytest.raises(InputError, match="clients is 0; expected a positive integer"):
        aggregated(gradient(quadratic), 0)
    with pytest.raises(InputError, match="clients is 3; expected a divisor of the 4"):
        aggregated(gradient(quadratic), 3)(KEY, WEIGHTS, batch)
    uneven = Batch(batch.inputs, jnp.zeros(3))
    with pytest.raises(InputError, match="batch has leaves with first axes"):
        fedavg(quadratic, 0.1)(KEY, WEIGHTS, uneven)


def test_what_does_not_fit_together_is_refused():
    target, seen = mlp_observation()
    params, update = seen.round(0)
    given = {"params": params, "update": update, "num_examples": 3, "spec": SPEC}
    local = LocalTraining(0.1)
    for options, message in (
        ({"sent": "sums"}, "sent is 'sums'; expected one of gradient, delta, weights"),
        ({"local_training": local}, "local_training is given for a gradient;"),
        ({"sent": "delta", "local_training": 3}, "local_training is int; expected"),
        (
            {"sent": "delta", "local_training": LocalTraining(0.1, batch_size=2)},
            "batch_size is 2; expected a divisor of the 3 examples",
        ),
        (
            {
                "sent": "delta",
                "local_training": dataclasses.replace(local, clients=2),
            },
            "clients is 2; expected a divisor of the 3 examples",
        ),
    ):
        with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
            observe(**given, **options)
    with pytest.raises(InputError, match="local_training is granted, but this client"):
        simulate(KEY, target, params, numbers(3), grant=("local_training",))
