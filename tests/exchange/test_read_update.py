"""Updates made in PyTorch, read from files, equal those made in JAX."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxinv.client import simulate
from jaxinv.errors import InputError
from jaxinv.exchange import ClientFile, load_model, read_tensors, read_update
from jaxinv.fedavg import fedavg
from jaxinv.local_training import LocalTraining
from jaxinv.target import Spec, from_function

pytest.importorskip("torch", reason="torch is not installed")
from torch_clients import CLIENT, NET, a_client, own_files

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TWINS = [
    ("lenet", (32, 32, 3), {}),
    ("convnet", (18, 18, 3), {"width": 2}),
    ("resnet18", (8, 8, 3), {"width": 4}),
]


@pytest.mark.parametrize(
    "twin, sent",
    [
        *((TWINS[0], sent) for sent in ("gradient", "delta", "weights")),
        (TWINS[1], "delta"),
        (TWINS[2], "weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_update_of_pytorch_is_that_of_jax(twin, sent, tmp_path):
    steps = 1 if sent == "gradient" else 2
    target, params, batch, files = a_client(tmp_path, *twin, sent=sent, steps=steps)
    local = None if sent == "gradient" else LocalTraining(0.1, local_steps=steps)
    said = ClientFile(target.spec, sent, 2, local, labels=(3, 4))
    received = read_update(target, *files, said)
    assert all(f.verdict != "impossible" for f in received.findings)
    release = None if local is None else fedavg(target.loss, 0.1, local_steps=steps)
    grant = ("labels",) if local is None else ("labels", "local_training")
    ours = simulate(
        jax.random.key(0),
        target,
        params,
        batch,
        release=release,
        grant=grant,
        sent=sent,
    )
    assert jax.tree.structure(received.observation) == jax.tree.structure(ours)
    pairs = zip(
        jax.tree.leaves(received.observation), jax.tree.leaves(ours), strict=True
    )
    for theirs, mine in pairs:
        # Weights of size 1 are rounded, and small deltas of them with that.
        scale = max(np.abs(mine).max(), 1e-3)
        assert np.abs(np.asarray(theirs) - mine).max() < 1e-3 * scale


def test_a_sum_is_read_as_its_mean(tmp_path):
    target, params, batch, files = a_client(
        tmp_path, *TWINS[0], sent="gradient", reduction="sum"
    )
    said = ClientFile(target.spec, "gradient", 2, reduction="sum", labels=(3, 4))
    seen = read_update(target, *files, said).observation
    ours = simulate(jax.random.key(0), target, params, batch)
    for theirs, mine in zip(
        jax.tree.leaves(seen.update), jax.tree.leaves(ours.update), strict=True
    ):
        assert np.allclose(theirs, mine, atol=1e-5)
    with pytest.raises(InputError, match="a loss that is summed"):
        read_update(target, *files, ClientFile(target.spec, "gradient", 2))


def test_a_sum_of_local_steps_is_a_larger_learning_rate(tmp_path):
    target, params, batch, files = a_client(
        tmp_path, *TWINS[0], sent="weights", reduction="sum"
    )
    local = LocalTraining(0.1, local_steps=1)
    said = ClientFile(target.spec, "weights", 2, local, reduction="sum")
    received = read_update(target, *files, said)
    assert received.local.learning_rate == pytest.approx(0.2)
    made = received.release(jax.random.key(0), params, batch)
    for theirs, mine in zip(
        jax.tree.leaves(received.observation.update), jax.tree.leaves(made), strict=True
    ):
        assert np.allclose(theirs[0], mine, atol=1e-5)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(own_files(tmp_path))
    return tmp_path


FILES = ("before.safetensors", "after.safetensors", "client.toml")


@pytest.mark.parametrize("name", ["Net", "net", "make"])
def test_a_model_of_ones_own_agrees_with_pytorch(own, name):
    received = read_update(f"my_model.py:{name}", *FILES, torch_model="my_net.py:Net")
    assert "the loss and the gradient agree" in received.compared
    forms = {pair.ours: pair.form for pair in received.layout.pairs}
    assert forms["params/Dense_0/kernel"] == "flatten"


def test_another_model_is_refused_with_the_layer_that_differs(own):
    text = (own / "my_model.py").read_text().replace("sigmoid", "tanh")
    (own / "my_model.py").write_text(text)
    with pytest.raises(InputError, match=r"output of layer 'Dense_0' .'body.3'"):
        read_update("my_model.py:Net", *FILES, torch_model="my_net.py:Net")


def test_a_wrong_flatten_is_refused(own):
    (own / "client.toml").write_text(CLIENT + '[flatten]\n"body.3" = 1\n')
    with pytest.raises(InputError, match="'Dense_0'"):
        read_update("my_model.py:Net", *FILES, torch_model="my_net.py:Net")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("my_model.py:Nett", "did you mean Net"),
        ("my_model.py:too_many", "expected a loss"),
        ("my_model.py:nothing", "is a int; expected a loss"),
        ("nowhere.py:Net", "no such file"),
        ("lenett", "did you mean lenet"),
        ("raises.py:Net", "ZeroDivisionError: division by zero (line 2)"),
        ("typo.py:Net", "SyntaxError"),
        ("lenet", "fits no module of the model"),
    ],
)
def test_wrong_models_are_refused_in_a_line(own, model, words):
    (own / "raises.py").write_text("x = 1\nx / 0\n")
    (own / "typo.py").write_text("def (:\n")
    with pytest.raises(InputError) as caught:
        read_update(model, *FILES)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ("my_net.py:Nett", "did you mean Net"),
        ("my_net.py", "expected FILE.py:NAME"),
        ("needs.py:Net", "missing 1 required positional argument"),
        ("other.py:Net", "Error(s) in loading state_dict"),
    ],
)
def test_wrong_models_of_pytorch_are_refused_in_a_line(own, net, words):
    (own / "needs.py").write_text(NET.format(extra="size", more=""))
    (own / "other.py").write_text(NET.format(extra="", more="nn.Linear(4, 4),"))
    with pytest.raises(InputError) as caught:
        read_update("my_model.py:Net", *FILES, torch_model=net)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_impossible_update_is_refused_unless_anyway(own):
    with pytest.raises(InputError, match=r"nothing was trained; .* --anyway"):
        read_update("my_model.py:Net", FILES[0], FILES[0], FILES[2])
    received = read_update("my_model.py:Net", FILES[0], FILES[0], FILES[2], anyway=True)
    assert received.findings[0].verdict == "impossible"


def test_numbers_that_are_not_finite_are_refused_even_so(own):
    after = dict(read_tensors(FILES[1]))
    after["body.0.bias"] = np.full_like(after["body.0.bias"], np.nan)
    safetensors.numpy.save_file(after, "bad.safetensors")
    with pytest.raises(InputError, match="holds 8 NaN or infinite"):
        read_update(
            "my_model.py:Net", FILES[0], "bad.safetensors", FILES[2], anyway=True
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("body.0.bias"), "lacks body.0.bias"),
        (lambda t: t.update(extra=np.ones(1, np.float32)), "has extra besides"),
        (lambda t: t.update({"body.0.bias": np.ones(5, np.float32)}), "has shape (5,)"),
        (lambda t: t.update({"body.0.bias": np.ones(8, np.int32)}), "floating point"),
    ],
)
def test_an_update_of_another_model_is_refused(own, change, words):
    after = dict(read_tensors(FILES[1]))
    change(after)
    safetensors.numpy.save_file(after, "other.safetensors")
    with pytest.raises(InputError) as caught:
        read_update("my_model.py:Net", FILES[0], "other.safetensors", FILES[2])
    assert words in str(caught.value)


def test_a_loss_without_init_takes_the_names_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    params = {"fc/w": rng.normal(size=(12, 3)), "fc/b": rng.normal(size=3)}
    np.savez(tmp_path / "p.npz", **params)
    np.savez(tmp_path / "u.npz", **{n: 0.01 * v for n, v in params.items()})

    def loss(params, batch):
        flat = batch.inputs.reshape(len(batch.inputs), -1)
        return ((flat @ params["fc"]["w"] + params["fc"]["b"]) ** 2).mean()

    spec = Spec((2, 2, 3), 3)
    said = ClientFile(spec, "gradient", 1)
    received = read_update(
        from_function(loss, spec),
        tmp_path / "p.npz",
        tmp_path / "u.npz",
        said,
        anyway=True,
    )
    seen = received.observation.round(0)[0]
    assert np.allclose(seen["fc"]["w"], params["fc/w"])


@pytest.mark.parametrize("mode", ["frozen", "batch"])
def test_a_module_is_told_the_mode_of_its_batch_norm(mode, tmp_path):
    (tmp_path / "m.py").write_text(
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x, train):\n"
        "        x = nn.BatchNorm(use_running_average=not train)(x)\n"
        "        return nn.Dense(3)(x.reshape(x.shape[0], -1))\n"
    )
    spec = Spec((2, 2, 3), 3)
    name = f"{tmp_path / 'm.py'}:Net"
    target = load_model(name, spec, batch_norm=mode)
    params = target.init(jax.random.key(0))
    inputs = 5 + jax.random.normal(jax.random.key(1), (4, 2, 2, 3))
    moved = np.abs(target.probe(params, _batch(inputs)).features).mean()
    assert moved > 4 if mode == "frozen" else moved < 1
    with pytest.raises(InputError, match="batch_norm is missing"):
        load_model(name, spec)


NNX = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.norm(nnx.sigmoid(self.conv(x)))
        return self.fc(x.reshape(x.shape[0], -1))

net = Net(nnx.Rngs(0))

def make(spec):
    return Net(nnx.Rngs(0))
"""


@pytest.mark.parametrize("name", ["net", "make"])
def test_an_nnx_module_agrees_with_pytorch(name, tmp_path, monkeypatch):
    monkeypatch.chdir(own_files(tmp_path, batch_norm=True))
    (tmp_path / "my_nnx.py").write_text(NNX)
    words = {"torch_model": "my_net.py:Net"}
    received = read_update(f"my_nnx.py:{name}", *FILES, **words)
    assert "the loss and the gradient agree" in received.compared
    forms = {pair.ours: pair.form for pair in received.layout.pairs}
    assert forms["params/fc/kernel"] == "flatten"
    assert forms["batch_stats/norm/mean"] == "same"
    back = received.layout.of_file(received.leaves())
    came = read_tensors(FILES[1])
    assert len(back) == 6
    assert all(np.allclose(back[name], came[name], atol=1e-6) for name in back)
    # nnx has no way to look inside a module, so that no prior could read them.
    assert received.observation.known.batch_stats is None
    assert "no batch norm of a linen module" in received.findings[-1].line


def test_a_class_of_nnx_says_what_it_lacks(own):
    (own / "my_nnx.py").write_text(NNX)
    with pytest.raises(InputError, match=r"missing 1 required positional .* 'rngs'"):
        read_update("my_nnx.py:Net", *FILES)


def _batch(inputs):
    from jaxinv.target import Batch

    return Batch(inputs, np.zeros(len(inputs), np.int32))
