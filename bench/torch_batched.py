"""Inverting Gradients in PyTorch with all starts at once, by `torch.func`.

What a user of PyTorch would write to have jaxinv's batching: the gradient of the match
of the gradients of `functional_call`, under `vmap` over the starts. Same weights, same
starts, same steps as `bench.torch_peer`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bench.torch_peer import (
    channels_first,
    limits,
    objective,
    signed_adam,
    synchronised,
    total_norm,
)


class BatchedRun(NamedTuple):
    """One finished run of R starts."""

    inputs: np.ndarray
    """`[R, N, H, W, C]`, the best iterate of each start, normalised."""
    scores: np.ndarray
    """`[R]`, one minus the cosine there."""
    first_matches: np.ndarray
    """`[R]`, one minus the cosine at each start."""
    seconds: float
    """Of the steps alone."""
    chunk: int
    """Starts under one vmap."""


def inverting_gradients(
    module: nn.Module,
    truth: np.ndarray,
    labels: np.ndarray,
    starts: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
    *,
    num_steps: int,
    learning_rate: float,
    tv: float,
    device: str = "cpu",
    chunk: int | None = None,
) -> BatchedRun:
    """Attacks the gradient of `truth` on `module` from many starts.

    Args:
      module: a twin that holds the weights; it is moved to the device.
      truth: `[N, H, W, C]` normalised; only its gradient is used.
      labels: `[N]`.
      starts: `[R, N, H, W, C]` normalised.
      box: lowest and highest normalised value, `[C]` each.
      num_steps: gradient evaluations of each start.
      learning_rate: Adam's, tenfold lower after 3/8, 5/8 and 7/8.
      tv: weight of the total variation.
      device: "cpu" or "cuda".
      chunk: starts under one vmap; None takes all, and half of them again and again
        where a GPU's memory does not hold them.
    """
    size = len(starts) if chunk is None else min(chunk, len(starts))
    while True:
        try:
            return _run(
                module.to(device),
                truth,
                labels,
                starts,
                box,
                num_steps=num_steps,
                learning_rate=learning_rate,
                tv=tv,
                device=device,
                chunk=size,
            )
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = -(-size // 2)
        torch.cuda.empty_cache()


def _run(
    module, truth, labels, starts, box, *, num_steps, learning_rate, tv, device, chunk
) -> BatchedRun:
    weights = {name: p.detach() for name, p in module.named_parameters()}
    buffers = dict(module.named_buffers())
    target = torch.tensor(np.asarray(labels), dtype=torch.long, device=device)

    def loss(weights, x):
        logits = torch.func.functional_call(module, (weights, buffers), (x,))
        return nn.functional.cross_entropy(logits, target)

    gradients = torch.func.grad(loss)
    observed = list(gradients(weights, channels_first(truth, device)).values())
    norm = total_norm(observed)

    def one_start(x):
        guess = gradients(weights, x)
        return objective(guess.values(), observed, norm, x, tv)

    evaluate = torch.func.vmap(
        torch.func.grad_and_value(one_start, has_aux=True), chunk_size=chunk
    )
    low, high = limits(box, device)
    xs = channels_first(starts, device).clamp(low, high)
    optimizer, schedule = signed_adam(xs, learning_rate, num_steps)
    best, best_xs = xs.new_full((len(xs),), float("inf")), xs.clone()
    scores, first = best.clone(), best.clone()
    began = synchronised(device)
    for i in range(num_steps):
        grads, (totals, matches) = evaluate(xs)
        better = totals < best
        best = torch.where(better, totals, best)
        best_xs = torch.where(better[:, None, None, None, None], xs, best_xs)
        scores = torch.where(better, matches, scores)
        first = matches if i == 0 else first
        xs.grad = grads.sign_()
        optimizer.step()
        schedule.step()
        xs.copy_(xs.clamp(low, high))
    seconds = synchronised(device) - began
    return BatchedRun(
        best_xs.movedim(-3, -1).cpu().numpy(),
        scores.cpu().numpy(),
        first.cpu().numpy(),
        seconds,
        chunk,
    )
