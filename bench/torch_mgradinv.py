"""MGradInv on matrix factorisation in PyTorch, as one would write it there.

The stages, the ratings' elimination, Levenberg and Marquardt's steps, the number and
the stopping of the conjugate gradients and the scores are `jaxinv.attacks.mgradinv`'s,
so that from the same starts it walks the same way. Kinder to PyTorch than that attack
to JAX: the gradient of a rating is written out, not derived, and items that are not
rated are dropped before anything runs.

Products with the Jacobian come from `autograd`, or from `by_hand`, formulas for this
one model that never form the gradients. Starts run together or, one a call, in a loop.
Inside, the starts are the last axis: then all that is not entry by entry is a matmul.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

FIRST_DAMPING = 1.0
TOLERANCE = 1e-5
"""Conjugate gradients end where the residual fell by this; jax.scipy's default."""


class TorchRun(NamedTuple):
    """What R starts found."""

    ratings: np.ndarray
    """`[R, N]`, those of items that are not rated as low as the box allows."""
    scores: np.ndarray
    """`[R]`, the relative squared distance of the updates."""
    trace: np.ndarray
    """`[steps, R]`, what the stage minimises, after each step."""


class Problem(NamedTuple):
    """One client's rounds, at one stage."""

    items: torch.Tensor
    """`[M, N, D]`, of the rated items, as all below."""
    target: torch.Tensor
    """`[M, N, D]`, the updates over the loss's slope `2 / N`."""
    weights: torch.Tensor
    """`[M, 1, 1]`, one over the squared norm of each target."""
    votes: torch.Tensor
    """`[M, M]`, whose word each round's ratings are."""
    matched: torch.Tensor
    """`[M, 1, 1]`, the weights of the rounds in the match."""

    def voted(self, x: torch.Tensor) -> torch.Tensor:
        """Sums over the rounds that vote, `[M, n, R]` to the same."""
        return torch.tensordot(self.votes, self.weights * x, 1)

    def ratings(self, users: torch.Tensor) -> torch.Tensor:
        """`[M, N, R]`, the ratings that match best given embeddings `[M, D, R]`."""
        norm2 = (users**2).sum(1, keepdim=True)
        apart = (self.items @ users) * norm2 - self.target @ users
        return self.voted(apart) / self.voted(norm2)

    def residuals(self, users: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
        """`[M, N, D, R]`; the squares of a start sum to its match."""
        errors = self.items @ users - ratings
        apart = errors[:, :, None] * users[:, None] - self.target[..., None]
        return (self.matched * self.weights).sqrt()[..., None] * apart


Linearized = tuple[torch.Tensor, torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]
"""Residuals, their gradient `J'r`, and the product with `J'J`."""


def autograd(problem: Problem, users: torch.Tensor) -> Linearized:
    """By two graphs kept for a step: the backward pass, and the backward pass of it."""
    with torch.enable_grad():
        users = users.detach().requires_grad_()
        now = problem.residuals(users, problem.ratings(users))
        probe = torch.zeros_like(now, requires_grad=True)
        (back,) = torch.autograd.grad(now, users, probe, create_graph=True)

    def pull(residuals: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(now, users, residuals, retain_graph=True)[0]

    def normal(direction: torch.Tensor) -> torch.Tensor:
        pushed = torch.autograd.grad(back, probe, direction, retain_graph=True)[0]
        return pull(pushed)

    return now.detach(), pull(now.detach()), normal


def by_hand(problem: Problem, users: torch.Tensor) -> Linearized:
    """By formulas: a row of the gradient is `error * user`, of rank one."""
    both = torch.cat([problem.items, problem.target], 1)
    across = both.mT.contiguous()
    ratings = problem.ratings(users)
    now = problem.residuals(users, ratings)
    predicted = problem.items @ users
    errors = predicted - ratings
    norm2 = (users**2).sum(1, keepdim=True)
    total = problem.voted(norm2)
    square = problem.matched * problem.weights
    errors2 = (errors**2).sum(1, keepdim=True)

    def heard(x: torch.Tensor) -> torch.Tensor:
        return problem.weights * torch.tensordot(problem.votes.mT, x / total, 1)

    def pull(by_error: torch.Tensor, direct: torch.Tensor) -> torch.Tensor:
        """Back to users, from what moves with the errors and what does not."""
        by_rating = heard(by_error)
        by_norm2 = heard((by_error * ratings).sum(1, keepdim=True))
        by_norm2 = by_norm2 - (by_rating * predicted).sum(1, keepdim=True)
        rows = torch.cat([by_error - by_rating * norm2, by_rating], 1)
        return across @ rows + 2 * by_norm2 * users + direct

    def normal(direction: torch.Tensor) -> torch.Tensor:
        along = (users * direction).sum(1, keepdim=True)
        seen, aimed = (both @ direction).chunk(2, 1)
        moved = seen * norm2 + 2 * along * predicted - aimed
        rated = (problem.voted(moved) - 2 * ratings * problem.voted(along)) / total
        change = seen - rated
        inner = (change * errors).sum(1, keepdim=True)
        direct = square * (inner * users + errors2 * direction)
        return pull(square * (change * norm2 + errors * along), direct)

    scaled = square.sqrt()
    by_error = scaled * (now * users[:, None]).sum(2)
    direct = scaled * (now * errors[:, :, None]).sum(1)
    return now, pull(by_error, direct), normal


DERIVATIVES = {"autograd": autograd, "by_hand": by_hand}


@torch.no_grad()
def mgradinv(
    items: np.ndarray,
    update: np.ndarray,
    starts: np.ndarray,
    box: tuple[float, float],
    *,
    staged: bool,
    num_steps: int = 60,
    products: int = 20,
    derivatives: str = "autograd",
) -> TorchRun:
    """Attacks one client, seen in every round, from many starts at once.

    Args:
      items: `[M, N, D]`, the public rows in each round.
      update: `[M, N, D]`, their gradients; rows of zeros are not rated.
      starts: `[R, M, D]`, embeddings to start from.
      box: the lowest and highest rating.
      staged: whether the first round is matched before the others, as from starts that
        were drawn; those read from the gradient go without.
      num_steps: Levenberg-Marquardt steps.
      products: conjugate-gradient iterations in a step, at most.
      derivatives: one of `DERIVATIVES`.
    """
    rated = np.any(update != 0, (0, 2))
    target = torch.tensor(update[:, rated]) * (rated.sum() / 2)
    stages = _stages(torch.tensor(items[:, rated]), target)
    stages = stages if staged else stages[-1:]
    users = torch.tensor(starts).permute(1, 2, 0).contiguous()
    length = max(1, num_steps // len(stages))
    linearize, trace = DERIVATIVES[derivatives], []
    damping = torch.full_like(users[0, 0], FIRST_DAMPING)
    for count in range(num_steps):
        stage = min(count // length, len(stages) - 1)
        if count == stage * length:
            damping = torch.full_like(damping, FIRST_DAMPING)
            if stage == 1:
                users = users[:1].expand_as(users).contiguous()
        users, damping, score = _lm_step(
            stages[stage], linearize, users, damping, products
        )
        trace.append(score)
    ratings, scores = _judged(stages[-1], users, box)
    whole = np.full((len(starts), len(rated)), box[0], items.dtype)
    whole[:, rated] = ratings.mT.numpy()
    return TorchRun(whole, scores.numpy(), torch.stack(trace).numpy())


def _stages(items: torch.Tensor, target: torch.Tensor) -> list[Problem]:
    """The first round alone, all with ratings of their own, all with the same."""
    rounds = len(items)
    weights = 1 / (target**2).sum((1, 2))[:, None, None]
    even = torch.full_like(weights, 1 / rounds)
    together = torch.full((rounds, rounds), 1 / rounds, dtype=items.dtype)
    last = Problem(items, target, weights, together, even)
    if rounds == 1:
        return [last]
    first = torch.zeros_like(even)
    first[0] = 1
    alone = last._replace(votes=torch.eye(rounds, dtype=items.dtype))
    return [alone._replace(matched=first), alone, last]


def _lm_step(
    problem: Problem,
    linearize: Callable[[Problem, torch.Tensor], Linearized],
    users: torch.Tensor,
    damping: torch.Tensor,
    products: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    now, gradient, normal = linearize(problem, users)
    step = _solved(lambda p: normal(p) + damping * p, gradient, products)
    moved = users - step
    after = (problem.residuals(moved, problem.ratings(moved)) ** 2).sum((0, 1, 2))
    before = (now**2).sum((0, 1, 2))
    better = after < before
    floor = torch.finfo(users.dtype).eps ** 2
    return (
        torch.where(better, moved, users),
        torch.where(better, (damping / 4).clamp_min(floor), damping * 4),
        torch.where(better, after, before),
    )


def _solved(
    product: Callable[[torch.Tensor], torch.Tensor], right: torch.Tensor, most: int
) -> torch.Tensor:
    """Conjugate gradients, each start until it is as near as `TOLERANCE`."""
    solution, residual, direction = torch.zeros_like(right), right, right
    left = (right**2).sum((0, 1))
    enough = TOLERANCE**2 * left
    for _ in range(most):
        going = left > enough
        if not going.any():
            break
        image = product(direction)
        # A start that has arrived moves no more while others go on.
        length = torch.where(going, left / (direction * image).sum((0, 1)), 0)
        solution = solution + length * direction
        residual = residual - length * image
        before, left = left, (residual**2).sum((0, 1))
        direction = residual + left / before * direction
    return solution


def _judged(
    problem: Problem, users: torch.Tensor, box: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """`[N, R]` and `[R]`: ratings and scores under the sign that explains more."""
    ratings, scores = [], []
    for signed in (users, -users):
        ratings.append(problem.ratings(signed).clamp(*box)[0])
        apart = problem.residuals(signed, ratings[-1])
        scores.append((apart**2).sum((0, 1, 2)))
    # Where both match, ratings are positive: those of the larger sum.
    alike = (scores[0] - scores[1]).abs() <= 1e-3 * torch.minimum(*scores) + 1e-9
    odder = ratings[0].sum(0) < ratings[1].sum(0)
    flipped = torch.where(alike, odder, scores[1] < scores[0])
    return torch.where(flipped, *ratings[::-1]), torch.where(flipped, *scores[::-1])
