"""The batch's own statistics from running ones, against PyTorch's own batch norm."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxinv import priors
from jaxinv.errors import InputError
from jaxinv.exchange import ClientFile, read_tensors, read_update
from jaxinv.local_training import LocalTraining

pytest.importorskip("torch", reason="torch is not installed")
import torch
from torch_clients import a_client

pytestmark = pytest.mark.usefixtures("compiled_quickly")

CONVNET = ("convnet", (9, 9, 3), {"width": 2, "norm": "batch_training"})


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """A client in PyTorch that took one step in training mode."""
    return a_client(tmp_path_factory.mktemp("bn"), *CONVNET, sent="weights", num=3)


def said(target, *, steps=1, sent="weights", **changes):
    local = LocalTraining(0.1, local_steps=steps) if sent != "gradient" else None
    more = {"batch_norm": "batch", "labels": (3, 4, 5), **changes}
    return ClientFile(target.spec, sent, 3, local, **more)


def lines(received):
    return [f for f in received.findings if f.check == "statistics"]


def rewritten(files, folder, change, index=1):
    tensors = dict(read_tensors(files[index]))
    change(tensors)
    path = folder / "changed.safetensors"
    # Sums of arrays without axes are no arrays.
    arrays = {name: np.asarray(values) for name, values in tensors.items()}
    safetensors.numpy.save_file(arrays, path)
    return [*files[:index], path, *files[index + 1 :]]


def seen_by_torch(target, params, batch):
    """Moments of what enters each batch norm of the twin, by PyTorch's own sums."""
    from bench.torch_models import build_twin, load_flax

    twin = load_flax(build_twin("convnet", target.spec, **CONVNET[2]), params)
    found = {}
    for name, layer in twin.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(
                lambda module, args, out, name=name: found.update({name: args[0]})
            )
    twin(torch.tensor(np.moveaxis(np.asarray(batch.inputs), -1, 1).copy()))
    axes = (0, 2, 3)
    return {
        name: (
            x.mean(axes).detach().numpy(),
            x.var(axes, correction=0).detach().numpy(),
        )
        for name, x in found.items()
    }


@pytest.mark.parametrize("kind", ["weights", "delta"])
def test_they_are_those_of_the_batch(came, kind, tmp_path):
    target, params, batch, files = came
    if kind == "delta":
        before = read_tensors(files[0])

        def minus(tensors):
            for name, values in before.items():
                tensors[name] = tensors[name] - values

        files = rewritten(files, tmp_path, minus)
    received = read_update(target, *files, said(target, sent=kind))
    known = received.observation.known
    assert "batch_stats" in known.granted()
    wanted = seen_by_torch(target, params, batch)
    assert known.batch_stats.keys() == wanted.keys() and len(wanted) == 8
    for name, (mean, var) in wanted.items():
        assert np.abs(known.batch_stats[name].mean - mean).max() < 1e-5
        assert np.abs(known.batch_stats[name].var - var).max() < 1e-5
    assert "8 layers follow" in lines(received)[-1].line


def test_the_prior_of_an_attack_reads_them(came):
    target, _, batch, files = came
    prior = priors.batch_norm_statistics(target)
    with_them, without = (
        read_update(target, *files, said(target, batch_stats=granted)).observation
        for granted in (None, False)
    )
    assert float(prior(with_them, batch)) < 1e-3
    # Then the prior falls back on the running statistics, which are of no batch.
    assert without.known.batch_stats is None and float(prior(without, batch)) > 1


def test_another_share_is_undone_too(tmp_path, monkeypatch):
    one = torch.nn.BatchNorm2d

    def other(channels):
        return one(channels, momentum=0.3)

    monkeypatch.setattr(torch.nn, "BatchNorm2d", other)
    target, params, batch, files = a_client(tmp_path, *CONVNET, sent="weights", num=3)
    monkeypatch.undo()
    wanted = seen_by_torch(target, params, batch)
    for share, right in ((0.3, True), (0.5, False)):
        client = said(target, batch_norm_momentum=share)
        found = read_update(target, *files, client).observation.known.batch_stats
        close = np.abs(found["bn0"].mean - wanted["bn0"][0]).max() < 1e-5
        assert close == right


def test_flax_keeps_another_variance_and_says_its_share(tmp_path):
    from flax import linen as nn

    from jaxinv.adapters import from_linen
    from jaxinv.target import Batch, Spec

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False, momentum=0.8, name="bn")(x)
            return nn.Dense(4, name="fc")(x.reshape(x.shape[0], -1))

    module, spec = Net(), Spec((4, 4, 3), 4)
    target = from_linen(module, spec)
    params = target.init(jax.random.key(0))
    inputs = 2 + jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    batch = Batch(inputs, np.array([0, 1]))
    grads = jax.grad(lambda p: target.loss(params._replace(params=p), batch))
    trained = jax.tree.map(
        lambda w, g: w - 0.1 * g, params.params, grads(params.params)
    )
    variables = {"params": params.params, **params.state}
    _, state = module.apply(variables, inputs, mutable=["batch_stats"])
    files = []
    for name, weights, statistics in (
        ("before", params.params, params.state["batch_stats"]),
        ("after", trained, state["batch_stats"]),
    ):
        leaves = {
            "/".join((head, *(p.key for p in path))): np.asarray(leaf)
            for head, part in (("params", weights), ("batch_stats", statistics))
            for path, leaf in jax.tree_util.tree_flatten_with_path(part)[0]
        }
        files.append(tmp_path / f"{name}.npz")
        np.savez(files[-1], **leaves)
    client = ClientFile(spec, "weights", 2, LocalTraining(0.1), batch_norm="batch")
    found = read_update(target, *files, client).observation.known.batch_stats
    axes = (0, 1, 2)
    assert np.abs(found["bn"].mean - inputs.mean(axes)).max() < 1e-5
    assert np.abs(found["bn"].var - inputs.var(axes)).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 2}, "2 steps of 3 examples leave a mixture"),
        ({"batch_norm": "frozen", "labels": None}, 'is not "batch"'),
    ],
)
def test_asked_for_where_they_do_not_follow_is_refused(came, changes, words):
    target, _, _, files = came
    client = said(target, batch_stats=True, **changes)
    with pytest.raises(InputError) as caught:
        read_update(target, *files, client)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_not_asked_for_several_steps_go_on_without(came):
    target, _, _, files = came
    received = read_update(target, *files, said(target, steps=2))
    assert received.observation.known.batch_stats is None
    text = " ".join(f.line for f in lines(received))
    assert "stay hidden" in text and "counted 1 batches" in text


def test_a_client_that_counts_more_batches_is_doubted(came, tmp_path):
    target, _, _, files = came

    def again(tensors):
        for name in tensors:
            if name.endswith("num_batches_tracked"):
                tensors[name] = tensors[name] + 4

    changed = rewritten(files, tmp_path, again)
    received = read_update(target, *changed, said(target))
    assert received.observation.known.batch_stats is None
    assert lines(received)[0].verdict == "doubtful"
    assert "counted 5 batches" in lines(received)[0].line


def test_frozen_statistics_do_not_change(came):
    target, _, _, files = came
    with pytest.raises(InputError, match=r"running statistics changed .* --anyway"):
        read_update(target, *files, said(target, batch_norm="frozen"))


def test_a_delta_may_hold_statistics_that_did_not_change(tmp_path):
    twin = ("convnet", (9, 9, 3), {"width": 2})
    target, _, _, files = a_client(tmp_path, *twin, sent="weights", num=3)
    before = read_tensors(files[0])

    def minus(tensors):
        for name, values in before.items():
            if not name.rpartition(".")[2].startswith(("running", "num_batches")):
                tensors[name] = tensors[name] - values

    client = said(target, sent="delta", batch_norm="frozen")
    received = read_update(target, *rewritten(files, tmp_path, minus), client)
    assert not lines(received)


def test_a_variance_that_no_batch_has_is_impossible(came, tmp_path):
    target, _, _, files = came

    def fallen(tensors):
        tensors["bn3.running_var"] = tensors["bn3.running_var"] * 0 + 0.2

    with pytest.raises(InputError, match="variance of bn3 fell further"):
        read_update(target, *rewritten(files, tmp_path, fallen), said(target))


def test_numbers_that_are_not_finite_are_refused(came, tmp_path):
    target, _, _, files = came

    def broken(tensors):
        tensors["bn3.running_mean"] = tensors["bn3.running_mean"] + np.float32(np.nan)

    with pytest.raises(InputError, match="batch_stats/bn3/mean holds NaN"):
        read_update(
            target, *rewritten(files, tmp_path, broken), said(target), anyway=True
        )


def test_a_gradient_grants_none(tmp_path):
    target, _, _, files = a_client(tmp_path, *CONVNET, sent="gradient", num=3)
    seen = read_update(target, *files, said(target, sent="gradient")).observation
    assert seen.known.batch_stats is None
