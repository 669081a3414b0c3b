"""Selective encryption: wrong arguments are named in one line."""

import jax
import numpy as np
import pytest
from encrypted_updates import BATCH, PARAMS, TARGET, loss

from jaxinv.defenses.encryption import (
    METRICS,
    CkksParameters,
    distance_parts,
    distance_shares,
    encryption,
    metric,
    overhead,
    positions,
    taken,
)
from jaxinv.errors import InputError
from jaxinv.release import gradient

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
BAD = {
    "ratio": (lambda: taken(positions(KEY, PARAMS), 1.5), "ratio is 1.5; expected a"),
    "granularity": (
        lambda: positions(KEY, PARAMS, granularity="row"),
        "granularity is 'row'; expected one of coordinate",
    ),
    "metric": (lambda: metric("size", TARGET), "metric is 'size'; expected one of"),
    "option": (
        lambda: metric("magnitude", TARGET, power=2),
        "option 'power' is unknown to metric 'magnitude'",
    ),
    "directions": (
        lambda: metric("input_sensitivity", TARGET, num_directions=0),
        "num_directions is 0",
    ),
    "exposed": (
        lambda: metric("product_exposed", TARGET, exposed={})(
            KEY, PARAMS, BATCH, PARAMS
        ),
        "exposed does not have the structure",
    ),
    "near": (
        lambda: distance_shares(KEY, gradient(loss), PARAMS, BATCH, near=0.0),
        "near is 0.0; expected None or more",
    ),
    "distance": (
        lambda: distance_parts(PARAMS, PARAMS, distance="l1"),
        "distance is 'l1'; expected one of l2, cosine",
    ),
    "mask of floats": (lambda: overhead(PARAMS), "mask is float32; expected bools"),
    "no mask": (lambda: overhead({}), "mask is empty; expected bools"),
    "degree": (
        lambda: overhead(np.ones(3, bool), parameters=CkksParameters(1000)),
        "poly_modulus is 1000; expected a power of two",
    ),
    "primes": (
        lambda: overhead(np.ones(3, bool), parameters=CkksParameters(8192, (60, 80))),
        r"coefficient_bits is \(60, 80\)",
    ),
    "release's ratio": (
        lambda: encryption(gradient(loss), TARGET, ratio=-0.1),
        "ratio is -0.1; expected a number",
    ),
    "release's mask": (
        lambda: encryption(gradient(loss), TARGET, mask=PARAMS),
        "mask is float32; expected bools like the update",
    ),
    "mask of another model": (
        lambda: encryption(lambda *_: PARAMS, TARGET, mask={"a": np.ones(2, bool)})(
            KEY, PARAMS, BATCH
        ),
        "mask does not have the structure and shapes",
    ),
    "options of a function": (
        lambda: encryption(
            gradient(loss),
            TARGET,
            metric=METRICS["random"].build(TARGET),
            options={"power": 2},
        ),
        "options is {'power': 2} for a metric that is a function",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named_in_one_line(case):
    call, words = BAD[case]
    with pytest.raises(InputError, match=f"^{words}[^\n]*$"):
        call()
