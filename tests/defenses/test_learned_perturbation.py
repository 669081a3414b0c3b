"""The perturber and its release: bounds, derivatives, files."""

import io
import json
import zipfile
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinv.attacks import inverting_gradients, iterate
from jaxinv.defenses.learned_perturbation import (
    Design,
    InverterDesign,
    features,
    fresh,
    fresh_inverter,
    inverted,
    learned_perturbation,
    load,
    perturbed,
    save,
)
from jaxinv.defenses.learned_perturbation.game import with_shift
from jaxinv.defenses.learned_perturbation.perturber import decode, encode
from jaxinv.defenses.protection import expected
from jaxinv.errors import InputError
from jaxinv.fedavg import fedavg
from jaxinv.models import build
from jaxinv.observation import observe
from jaxinv.release import gradient
from jaxinv.target import Batch, Spec, cross_entropy

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KEY = jax.random.key(0)
SPEC = Spec((8, 8, 2), 3, (0.4, 0.5), (0.2, 0.3))
FORMS = {
    "tanh": Design(SPEC.shape, SPEC.mean, SPEC.std, width=4, latent=3, noise=2),
    "certain": Design(SPEC.shape, SPEC.mean, SPEC.std, width=4, latent=3, noise=0),
    "gaussian": Design(
        SPEC.shape, SPEC.mean, SPEC.std, width=4, latent=3, form="gaussian"
    ),
}
TARGET = build("mlp", SPEC, widths=(8,))
IMAGES = SPEC.normalise(jax.random.uniform(jax.random.key(1), (4, *SPEC.shape)))
BATCH = Batch(IMAGES, jnp.array([0, 1, 2, 1]))
moved = jax.jit(perturbed)


def made(form, eps=0.5, size=1.0):
    """A perturber whose shift is `size` times as strong, scales differing."""
    one = fresh(KEY, FORMS[form], eps=eps)
    params = {
        **one.params,
        "shift": jax.tree.map(lambda w: size * w, one.params["shift"]),
    }
    return one.replace(params=params, scale=jnp.array([0.5, 1.0, 2.0]))


@pytest.mark.parametrize("form", FORMS)
def test_a_bound_of_zero_is_the_autoencoder(form):
    found = perturbed(made(form, eps=0.0, size=5.0), KEY, IMAGES)
    own = made(form)
    np.testing.assert_array_equal(found.inputs, decode(own, encode(own, IMAGES)))
    assert not np.any(found.delta)
    other = perturbed(made(form, eps=0.5, size=5.0), KEY, IMAGES)
    assert np.abs(other.inputs - found.inputs).max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31 - 1),
    st.sampled_from([0.0, 0.01, 0.5, 3.0]),
    st.sampled_from([0.1, 1.0, 30.0]),
)
def test_the_shift_never_leaves_its_bound(form, seed, eps, size):
    images = SPEC.normalise(jax.random.uniform(jax.random.key(seed), IMAGES.shape))
    one = made(form, eps, size)
    found = moved(one, jax.random.key(seed), images)
    bound = eps * np.asarray(one.scale)
    assert np.all(np.abs(found.delta) <= bound * (1 + 1e-6))
    if eps and size > 1:  # and it is used
        assert np.abs(found.delta / bound).max() > 0.5
    pixels = SPEC.denormalise(found.inputs)
    assert float(pixels.min()) > -1e-5 and float(pixels.max()) < 1 + 1e-5


def test_what_is_drawn_hangs_on_the_key_unless_nothing_is():
    for form, draws in (("tanh", True), ("gaussian", True), ("certain", False)):
        one = made(form, size=3.0)
        a, b = (moved(one, jax.random.key(seed), IMAGES).inputs for seed in (1, 2))
        assert np.array_equal(a, b) != draws
        again = moved(one, jax.random.key(1), IMAGES).inputs
        np.testing.assert_array_equal(a, again)


def test_the_release_is_the_inner_one_of_perturbed_images():
    inner = gradient(TARGET.loss)
    whole = learned_perturbation(inner, made("tanh", size=3.0))
    params = TARGET.init(KEY)
    own, drawn = jax.random.split(KEY)
    wanted = inner(own, params, whole.perturbed(drawn, BATCH))
    plain = inner(own, params, BATCH)
    sent = jax.jit(whole)(KEY, params, BATCH)
    leaves = [jax.tree.leaves(tree) for tree in (sent, wanted, plain)]
    for a, b, c in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert not np.allclose(a, c, rtol=1e-2, atol=1e-4)
    assert whole.perturbed(drawn, BATCH).labels is BATCH.labels
    assert whole.local is None
    training = fedavg(TARGET.loss, 0.1, local_steps=2)
    assert learned_perturbation(training, made("tanh")).local is training.local


def test_an_attacker_who_knows_the_perturber_matches_through_it():
    whole = learned_perturbation(gradient(TARGET.loss), made("gaussian", size=2.0))
    params, one = TARGET.init(KEY), Batch(IMAGES[:1], BATCH.labels[:1])
    update = jax.jit(whole)(KEY, params, one)
    seen = observe(params, update, num_examples=1, spec=TARGET.spec, labels=[0])
    averaged = expected(whole, 3)
    attack = inverting_gradients(
        TARGET, release=averaged, num_steps=30, tv=0.0, signed=None
    )
    found = jax.jit(iterate(attack))(KEY, seen)
    trace = found.stats["trace"]["score"]
    assert np.isfinite(trace).all() and float(trace[-1]) < 0.8 * float(trace[0])


def test_the_derivative_through_the_gradient_is_that_of_finite_differences():
    with jax.enable_x64(True):

        def wide(tree):
            return jax.tree.map(
                lambda x: jnp.asarray(x, jnp.float64) if x.dtype == "float32" else x,
                tree,
            )

        def loss(params, batch):
            x = jnp.tanh(
                batch.inputs.reshape(len(batch.labels), -1) @ params["a"]["kernel"]
            )
            return cross_entropy(x @ params["b"]["kernel"], batch.labels)

        first, second = jax.random.split(KEY)
        params = wide(
            {
                "a": {"kernel": jax.random.normal(first, (128, 6)) / 8},
                "b": {"kernel": jax.random.normal(second, (6, 3))},
            }
        )
        own, batch = wide(made("tanh", size=2.0)), wide(BATCH)
        updates = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), params)
        pixels = SPEC.denormalise(batch.inputs)
        design = InverterDesign(SPEC, hidden=8, width=4)
        inverter = wide(
            fresh_inverter(KEY, design, params, updates, pixels, num_coordinates=64)
        )

        @jax.jit
        def error(shift):
            release = learned_perturbation(gradient(loss), with_shift(own, shift))
            read = features(inverter, release(KEY, params, batch))
            return jnp.mean((inverted(inverter, read[None])[0] - pixels[0]) ** 2)

        shift = own.params["shift"]
        slope = jax.jit(jax.grad(error))(shift)
        for seed in range(3):
            leaves, structure = jax.tree.flatten(shift)
            keys = jax.random.split(jax.random.key(seed), len(leaves))
            drawn = [
                jax.random.normal(k, x.shape, jnp.float64)
                for k, x in zip(keys, leaves, strict=True)
            ]
            way = jax.tree.unflatten(structure, drawn)
            ends = [
                float(error(jax.tree.map(lambda w, d: w + h * d, shift, way)))
                for h in (1e-5, -1e-5)
            ]
            along = sum(
                float(jnp.sum(a * b))
                for a, b in zip(*map(jax.tree.leaves, (slope, way)), strict=True)
            )
            assert abs(along) > 1e-9
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(along, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_gives_back_the_same_perturber(form, tmp_path):
    one = made(form, eps=0.75)
    save(one, tmp_path / "phi.npz")
    back = load(str(tmp_path / "phi.npz"))
    assert back.design == one.design
    assert jax.tree.structure(back) == jax.tree.structure(one)
    for a, b in zip(*map(jax.tree.leaves, (back, one)), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        moved(back, KEY, IMAGES)[0], moved(one, KEY, IMAGES)[0]
    )


def written(tmp_path, change):
    """A file of arrays that `change` has altered."""
    save(made("tanh"), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    return tmp_path / "bad.npz"


def text(**changes):
    entries = {**asdict(FORMS["tanh"]), **changes}
    return np.frombuffer(json.dumps(entries).encode(), np.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("design"), "holds no design"),
        (lambda a: a.pop("scale"), r"arrays \['scale'\] are missing or too many"),
        (lambda a: a.update(more=np.zeros(3)), r"\['more'\] are missing or too many"),
        (lambda a: a.update(scale=np.ones(4, np.float32)), "scale is float32"),
        (lambda a: a.update(scale=np.ones(3)), r"scale is float64 \(3,\), expected"),
        (
            lambda a: a.update(scale=np.full(3, np.nan, np.float32)),
            "scale has numbers that are not finite",
        ),
        (lambda a: a.update(scale=np.zeros(3, np.float32)), "scale or eps is out of"),
        (lambda a: a.update(eps=np.float32(-1)), "scale or eps is out of range"),
        (
            lambda a: a.update(scale=np.array([None] * 3, object)),
            "scale holds pickled Python objects",
        ),
        (lambda a: a.update(design=np.zeros(5000, np.uint8)), "at most 4096 bytes"),
        (lambda a: a.update(design=np.zeros(9, np.uint8)), "design is no JSON text"),
        (lambda a: a.update(design=text(more=1)), "design has not the entries"),
        (lambda a: a.update(design=text(width=10**9)), "design has sizes out of range"),
        (lambda a: a.update(design=text(width=8)), "expected float32"),
        (lambda a: a.update(design=text(width=True)), "sizes out of range"),
        (lambda a: a.update(design=text(shape="8")), "shape is no list of numbers"),
        (lambda a: a.update(design=text(shape=[7, 8, 2])), "sides of a multiple of 4"),
        (lambda a: a.update(design=text(form="sum")), "form is 'sum'; expected one of"),
    ],
)
def test_files_that_are_not_as_written_are_refused(tmp_path, change, words):
    path = written(tmp_path, change)
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    assert "perturber 'bad.npz': " in str(caught.value)


def test_paths_and_damage_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"the path of an \.npz"):
        save(made("tanh"), tmp_path / "phi.pkl")
    with pytest.raises(InputError, match=r"none\.npz': No such file"):
        load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a readable"):
        load(tmp_path / "text.npz")
    save(made("tanh"), tmp_path / "good.npz")
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable"):
        load(tmp_path / "cut.npz")
    # A header that claims more than is stored is refused before anything is allocated.
    fake = io.BytesIO()
    head = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(fake, head)
    with (
        zipfile.ZipFile(tmp_path / "good.npz") as source,
        zipfile.ZipFile(tmp_path / "huge.npz", "w") as sink,
    ):
        for name in source.namelist():
            body = fake.getvalue() if name == "scale.npy" else source.read(name)
            sink.writestr(name, body)
    with pytest.raises(InputError, match="more than the limit"):
        load(tmp_path / "huge.npz")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Design((8, 9, 1)), r"shape is \(8, 9, 1\); expected \(H, W, C\)"),
        (lambda: Design((8, 8)), "sides of a multiple of 4"),
        (lambda: Design((8, 8, 1), width=0), "width is 0; expected a positive"),
        (lambda: Design((8, 8, 1), latent=1.5), "latent is 1.5; expected a positive"),
        (lambda: Design((8, 8, 1), form="relu"), "form is 'relu'; expected one of"),
        (lambda: Design((8, 8, 1), noise=-1), "noise is -1; expected 0 or more"),
        (lambda: Design((8, 8, 1), mean=(0.1, 0.2)), "mean has 2 entries"),
        (lambda: fresh(KEY, FORMS["tanh"], eps=-1.0), "eps is -1.0; expected a number"),
        (lambda: fresh(KEY, FORMS["tanh"], eps=float("inf")), "eps is inf; expected a"),
        (
            lambda: learned_perturbation(gradient(TARGET.loss), "phi.npz"),
            "perturber is str; expected a fitted Perturber",
        ),
        (
            lambda: perturbed(made("tanh"), KEY, IMAGES[:, :4]),
            r"inputs have shape \(4, 4, 8, 2\); the perturber expected images of",
        ),
        (lambda: InverterDesign(Spec((9,), 2)), "an inverter expects"),
        (lambda: InverterDesign(SPEC, hidden=0), "hidden is 0; expected a positive"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()
