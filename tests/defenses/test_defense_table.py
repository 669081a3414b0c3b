"""The table of defences: every row builds, compiles, batches, and can be asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.defenses.learned_perturbation import Design, fresh, save
from jaxinv.errors import InputError
from jaxinv.models import build as build_model
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)

# Options under which a defence does nothing.
NOTHING = {
    "clipping": "norm=1e9",
    "encryption": "ratio=0",
    "dp_sgd": "clip=1e9,noise_multiplier=0",
    "gaussian_noise": "std=0",
    "laplace_noise": "std=0",
    "mixup": "alpha=0",
    "pruning": "rate=0",
    "soteria": "rate=0",
}


@pytest.fixture(scope="module")
def planted():
    target = build_model("mlp", Spec((8, 8, 1), 3), widths=(8,))
    inputs = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    return target, target.init(KEY), Batch(inputs, jnp.array([0, 1, 2]))


@pytest.fixture(scope="module")
def perturber(tmp_path_factory):
    """The file of a perturber, which that row cannot do without."""
    path = str(tmp_path_factory.mktemp("perturber") / "fresh.npz")
    save(fresh(KEY, Design((8, 8, 1), (0.0,), (1.0,), width=4, latent=2)), path)
    return path


def same(a, b, **tolerance):
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, **({"rtol": 1e-5, "atol": 1e-7} | tolerance))


@pytest.mark.parametrize("name", defenses.DEFENSES)
def test_every_row_is_a_release_that_draws_by_its_key(name, planted, perturber):
    target, params, batch = planted
    words = f"{name}:path={perturber}" if name == "learned_perturbation" else name
    asked = [defenses.asked(words)]
    release = jax.jit(defenses.build(asked, gradient(target.loss), target))
    sent = release(KEY, params, batch)
    assert jax.tree.structure(sent) == jax.tree.structure(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(sent))
    same(sent, release(KEY, params, batch), rtol=0, atol=0)
    plain = gradient(target.loss)(KEY, params, batch)
    changed = any(
        not np.allclose(a, b, rtol=1e-6, atol=1e-9)
        for a, b in zip(*map(jax.tree.leaves, (sent, plain)), strict=True)
    )
    # Three examples' gradient is shorter than the bound of the clippings.
    assert changed or name == "clipping"
    several = jax.vmap(release, (0, None, None))(
        jax.random.split(KEY, 2), params, batch
    )
    assert jax.tree.leaves(several)[0].shape[0] == 2


@pytest.mark.parametrize("name", NOTHING)
def test_without_strength_nothing_changes(name, planted):
    target, params, batch = planted
    asked = [defenses.asked(f"{name}:{NOTHING[name]}")]
    release = jax.jit(defenses.build(asked, gradient(target.loss), target))
    same(release(KEY, params, batch), gradient(target.loss)(KEY, params, batch))


@pytest.mark.parametrize(
    "words",
    [
        ["gaussian_noise:std=3"],
        ["laplace_noise:std=3"],
        ["dp_sgd:clip=1e9,noise_multiplier=1e-9"],
        ["pruning:rate=0.5"],
        ["gaussian_noise:std=3", "pruning"],
    ],
)
def test_who_knows_noise_and_gaps_matches_the_plain_gradient(words, planted):
    target, params, batch = planted
    asked = [defenses.asked(word) for word in words]
    known = jax.jit(defenses.build_known(asked, gradient(target.loss), target))
    same(known(KEY, params, batch), gradient(target.loss)(KEY, params, batch))


def test_who_knows_a_defence_that_draws_averages(planted):
    target, params, batch = planted
    asked = [defenses.asked("mixup")]
    plain = gradient(target.loss)
    known = defenses.build_known(asked, plain, target, draws=3)
    once = defenses.build(asked, plain, target)
    draws = [once(key, params, batch) for key in jax.random.split(KEY, 3)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *draws)
    same(jax.jit(known)(KEY, params, batch), mean)


def test_what_is_encrypted_still_reaches_the_sum(planted):
    target, params, batch = planted
    asked = [defenses.asked("sign"), defenses.asked("encryption:ratio=0.5")]
    plain = gradient(target.loss)
    summed = defenses.build_summed(asked, plain, target)(KEY, params, batch)
    same(summed, defenses.build(asked[:1], plain, target)(KEY, params, batch))
    assert defenses.hides(asked) and not defenses.hides(asked[:1])
    with pytest.raises(InputError, match="encryption comes before sign"):
        defenses.build(asked[::-1], plain, target)


def test_defences_compose_in_the_order_they_are_asked_for(planted):
    target, params, batch = planted
    asked = [defenses.asked("clipping:norm=0.1"), defenses.asked("sign")]
    sent = defenses.build(asked, gradient(target.loss), target)(KEY, params, batch)
    for leaf in jax.tree.leaves(sent):
        assert len(np.unique(np.abs(np.round(leaf[leaf != 0], 7)))) <= 1


def test_a_defence_reads_as_it_was_asked_for():
    for words in ("sign", "pruning:rate=0.5,scope=layer", "gaussian_noise:std=0.01"):
        assert str(defenses.asked(words)) == words


@pytest.mark.parametrize(
    "words, message",
    [
        ("gausian_noise", "did you mean gaussian_noise"),
        ("gaussian_noise:sdt=1", "option 'sdt' is unknown to gaussian_noise"),
        ("gaussian_noise:0.1", "expected NAME or NAME:option=value"),
        ("gaussian_noise:", "expected NAME or NAME:option=value"),
        ("gaussian_noise:std=1e400", "std is inf; expected a finite number"),
        ("gaussian_noise:std=-1", "std is -1; expected a number 0 or more"),
        ("gaussian_noise:std=much", "option std of gaussian_noise is 'much'"),
        ("pruning:rate=1.5", "rate is 1.5; expected a number between 0 and 1"),
        ("pruning:scope=row", "scope is 'row'; expected one of global, layer"),
        ("soteria:rate=NaN", "rate is nan"),
        ("stochastic_quantisation:bits=0", "bits is 0"),
        ("censor:trials=0", "trials is 0"),
        ("dp_sgd:clip=-1", "clip is -1"),
        ("encryption:ratio=2", "ratio is 2; expected a number between 0 and 1"),
        ("encryption:metric=size", "metric is 'size'"),
        ("learned_perturbation", "path is ''"),
        ("learned_perturbation:path=none.npz", "perturber 'none.npz'"),
    ],
)
def test_wrong_words_get_one_line(words, message, planted):
    target = planted[0]
    with pytest.raises(InputError) as refusal:
        defenses.build([defenses.asked(words)], gradient(target.loss), target)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
