"""Clients in PyTorch for tests: twins that train and save what they send."""

import jax
import numpy as np
from safetensors.torch import save_file

from jaxinv import models
from jaxinv.target import Batch, Spec


def a_client(folder, name, shape, options, *, sent, num=2, steps=1, reduction="mean"):
    """A twin that trained on random images: target, params, batch, and two files."""
    import torch

    from bench.torch_models import build_twin, load_flax

    torch.set_num_threads(1)
    spec = Spec(shape, 10)
    target = models.build(name, spec, **options)
    params = target.init(jax.random.key(0))
    twin = load_flax(build_twin(name, spec, **options), params)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(num, *shape)).astype(np.float32)
    labels = np.arange(num) + 3
    files = [str(folder / f"{one}.safetensors") for one in ("before", "after")]
    before = {n: v.clone() for n, v in twin.state_dict().items()}
    save_file(before, files[0])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = twin(torch.tensor(np.moveaxis(inputs, -1, 1).copy()))
        torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels), reduction=reduction
        ).backward()
        if sent != "gradient":
            optimizer.step()
    if sent == "gradient":
        state = {n: p.grad for n, p in twin.named_parameters()}
    else:
        state = {n: v.clone() for n, v in twin.state_dict().items()}
        if sent == "delta":
            trained = dict(twin.named_parameters())
            state = {n: state[n] - before[n] for n in trained}
    save_file(state, files[1])
    return (
        target,
        params,
        Batch(jax.numpy.asarray(inputs), labels.astype(np.int32)),
        files,
    )


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, {extra}):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Sigmoid(), {more}
            nn.Flatten(), nn.Linear(128, 10))

    def forward(self, x):
        return self.body(x)
"""

MODEL = """
from flax import linen as nn

class Net(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x{train}):
        x = nn.sigmoid(nn.Conv(8, (3, 3), strides=2, padding={padding})(x)){more}
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))

net = Net()

def make(spec, *, factor=1.0):
    return Net(spec.num_classes)

def broken(params, batch):
    return params["a"]["b"]

too_many = lambda a, b, c: 0
nothing = 3
"""

CLIENT = """
[data]
shape = [8, 8, 3]
num_classes = 10
[client]
sent = "weights"
examples = 1
labels = [3]
learning_rate = 0.1
steps = 1
"""


FLAX_NORM = "\n        x = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5)(x)"


def own_files(folder, *, padding=1, batch_norm=False):
    """A person's own files: both models, a client's file and its update."""
    import torch

    here, there, said = "", "", CLIENT
    if batch_norm:
        here, there = FLAX_NORM, "nn.BatchNorm2d(8),"
        said += 'batch_norm = "batch"\n'
    model = MODEL.format(
        padding=padding, more=here, train=", train" if batch_norm else ""
    )
    (folder / "my_net.py").write_text(NET.format(extra="", more=there))
    (folder / "my_model.py").write_text(model)
    (folder / "client.toml").write_text(said)
    scope = {}
    exec((folder / "my_net.py").read_text(), scope)
    torch.manual_seed(0)
    net = scope["Net"]()
    for values in net.parameters():
        torch.nn.init.uniform_(values, -0.5, 0.5)
    save_file(net.state_dict(), folder / "before.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    inputs = torch.tensor(np.moveaxis(pixels / np.float32(255), -1, 1).copy())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(net(inputs), torch.tensor([3])).backward()
    optimizer.step()
    save_file(net.state_dict(), folder / "after.safetensors")
    np.savez(folder / "truth.npz", x=pixels, y=np.array([3]))
    return folder
