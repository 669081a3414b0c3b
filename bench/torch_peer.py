"""Inverting Gradients in eager PyTorch, one start at a time, as the peers run it.

The same weights, the same start, the same steps as jaxinv's: what differs between the
two is the engine. Double backward with `create_graph`, Adam on the signed gradient.
`bench.torch_batched` shares what both forms have in common.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class PeerRun(NamedTuple):
    """One finished run."""

    inputs: np.ndarray
    """`[N, H, W, C]`, normalised."""
    score: float
    """One minus the cosine at the best iterate."""
    first_match: float
    """One minus the cosine at the start."""
    seconds: float
    """Of the steps alone."""


def inverting_gradients(
    module: nn.Module,
    truth: np.ndarray,
    labels: np.ndarray,
    start: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    *,
    num_steps: int,
    learning_rate: float,
    tv: float,
    device: str = "cpu",
) -> PeerRun:
    """Attacks the gradient of `truth` on `module`, best iterate returned.

    Args:
      module: a twin that holds the weights; it is moved to the device.
      truth: `[N, H, W, C]` normalised; only its gradient is used.
      labels: `[N]`.
      start: `[N, H, W, C]` normalised.
      box: lowest and highest normalised value, `[C]` each.
      num_steps: gradient evaluations.
      learning_rate: Adam's, tenfold lower after 3/8, 5/8 and 7/8.
      tv: weight of the total variation.
      device: "cpu" or "cuda".
    """
    weights = list(module.to(device).parameters())
    target = torch.tensor(np.asarray(labels), dtype=torch.long, device=device)

    def gradients(x, create_graph):
        loss = nn.functional.cross_entropy(module(x), target)
        return torch.autograd.grad(loss, weights, create_graph=create_graph)

    observed = [g.detach() for g in gradients(channels_first(truth, device), False)]
    norm = total_norm(observed)
    low, high = limits(box, device)
    x = channels_first(start, device).clamp(low, high).requires_grad_(True)
    optimizer, schedule = signed_adam(x, learning_rate, num_steps)
    best, best_x = torch.full_like(norm, float("inf")), x.detach().clone()
    score, first = best.clone(), best.clone()
    began = synchronised(device)
    for i in range(num_steps):
        optimizer.zero_grad()
        total, match = objective(gradients(x, True), observed, norm, x, tv)
        total.backward(inputs=[x])
        with torch.no_grad():
            # On the device: a comparison on the host would hold up a GPU every step.
            better = total < best
            best = torch.where(better, total, best)
            best_x = torch.where(better, x, best_x)
            score = torch.where(better, match, score)
            first = match.detach() if i == 0 else first
        assert x.grad is not None
        x.grad.sign_()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.copy_(x.clamp(low, high))
    seconds = synchronised(device) - began
    found = best_x.permute(0, 2, 3, 1).cpu().numpy()
    return PeerRun(found, score.item(), first.item(), seconds)


def objective(
    guess: Iterable[torch.Tensor],
    observed: Iterable[torch.Tensor],
    norm: torch.Tensor,
    x: torch.Tensor,
    tv: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The match plus the total variation, and the match.

    Args:
      guess: gradients at `x`.
      observed: gradients received, in the same order.
      norm: of all observed gradients together.
      x: `[N, C, H, W]`.
      tv: weight of the total variation.
    """
    guess = list(guess)
    inner = torch.stack(
        [(g * u).sum() for g, u in zip(guess, observed, strict=True)]
    ).sum()
    match = 1 - inner / (total_norm(guess) * norm)
    pixels = x.numel()
    down = (x[:, :, 1:] - x[:, :, :-1]).abs().sum() / pixels
    right = (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().sum() / pixels
    return match + tv * (down + right), match


def total_norm(leaves: Iterable[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm of all leaves together."""
    return torch.stack([(g**2).sum() for g in leaves]).sum().sqrt()


def signed_adam(x: torch.Tensor, learning_rate: float, num_steps: int):
    """Adam on `x` and its step decay; the caller takes the sign of the gradient."""
    optimizer = torch.optim.Adam([x], lr=learning_rate)
    drops = [int(num_steps // d) for d in (2.667, 1.6, 1.142)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    return optimizer, schedule


def channels_first(x: np.ndarray, device: str) -> torch.Tensor:
    """`[..., H, W, C]` to `[..., C, H, W]` on the device."""
    tensor = torch.tensor(np.asarray(x), device=device)
    return tensor.movedim(-1, -3).contiguous()


def limits(
    box: tuple[np.ndarray, np.ndarray], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The box as `[C, 1, 1]` each."""
    low, high = (torch.tensor(np.asarray(b), device=device) for b in box)
    return low.view(-1, 1, 1), high.view(-1, 1, 1)


def synchronised(device: str) -> float:
    """The clock, in seconds, once the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """PyTorch's precision of float32 products, under JAX's names for it.

    Args:
      name: "default" leaves PyTorch's own (on a GPU float32 products and TF32
        convolutions), "float64" is the dtype of the inputs, not a setting.
    """
    level = {"tensorfloat32": "high", "bfloat16": "medium", "float32": "highest"}
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if name in level:
        torch.set_float32_matmul_precision(level[name])
        torch.backends.cudnn.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
