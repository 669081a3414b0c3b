"""What happens to an update on its way."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.models.recommenders import RatingScale
from jaxinv.observation import Knowledge, Observation
from jaxinv.transit import in_transit

KEY = jax.random.key(0)


def sent(num=200, dim=50):
    """Two rounds, the second of other size; every other item is not rated."""
    keys = jax.random.split(KEY)
    items = jax.random.normal(keys[0], (2, num, dim)).at[:, ::2].set(0)
    update = {"items": items, "weights": jax.random.normal(keys[1], (2, dim, 40))}
    scale = jnp.array([1.0, 100.0])[:, None, None]
    update = jax.tree.map(lambda x: x * scale, update)
    return Observation(update, update, Knowledge(), num, RatingScale())


def test_nothing_asked_changes_nothing():
    arrived = in_transit(KEY, sent())
    jax.tree.map(np.testing.assert_array_equal, arrived.update, sent().update)


def test_noise_has_its_share_in_each_round_and_leaf():
    before, after = sent().update, in_transit(KEY, sent(), noise=0.1).update
    for name in before:
        noise = np.asarray(after[name] - before[name])
        there = np.asarray(before[name] != 0)
        for one, x, on in zip(noise, np.asarray(before[name]), there, strict=True):
            share = one[on].std() / np.sqrt(np.mean(x[on] ** 2))
            assert 0.095 < share < 0.105
            # What is not sent stays zero, which tells what is.
            assert not one[~on].any()


def test_noise_on_every_row_hides_which_were_sent():
    before = sent().update
    after, part = (
        in_transit(KEY, sent(), noise=0.1, every_row=every).update
        for every in (True, False)
    )
    noise = np.asarray(after["items"] - before["items"])
    np.testing.assert_allclose(
        noise[:, ::2].std((1, 2)), noise[:, 1::2].std((1, 2)), 0.05
    )
    # Where noise is added either way it is the same.
    np.testing.assert_array_equal(after["items"][:, 1::2], part["items"][:, 1::2])
    np.testing.assert_array_equal(after["weights"], part["weights"])


def test_rounds_and_keys_have_noise_of_their_own():
    noise = [
        in_transit(key, sent(), noise=0.1).update["weights"] - sent().update["weights"]
        for key in jax.random.split(KEY)
    ]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(noise[0][0].ravel(), noise[0][1].ravel())[0, 1]) < 0.1


def test_float16_keeps_eleven_bits_and_the_type():
    before = np.asarray(sent().update["weights"])
    after = np.asarray(in_transit(KEY, sent(), float16=True).update["weights"])
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after, after.astype(np.float16))
    np.testing.assert_allclose(after, before, rtol=2**-11, atol=1e-7)
    assert np.any(after != before)
