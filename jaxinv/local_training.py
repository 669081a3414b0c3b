"""How a client trains on its own: what it does, and what an attacker is told of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from jaxinv.adam import adam
from jaxinv.errors import InputError
from jaxinv.options import check_choice, check_positive

OPTIMIZERS = ("sgd", "momentum", "adam")
"""Optimisers that have a name, with PyTorch's constants."""


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains. Hashable, so static: what an attacker is told of it.

    Attributes:
      learning_rate: of every step.
      local_steps: steps in all, cycling through the examples; None for whole epochs.
      epochs: passes over the examples, where `local_steps` is None.
      batch_size: examples of a step; None is all of the client's.
      optimizer: a name in `OPTIMIZERS`, or an optax transformation, which is taken as
        it is and brings its own step size.
      momentum: of "momentum".
      order: which examples meet in which step. None: as they lie, epoch after epoch.
        "shuffled": drawn anew for each epoch, so that nobody else knows. Or the
        indices themselves, `[steps, batch_size]`.
      clients: of how many clients the mean was sent; their examples lie one client
        after the other, as many for each.
    """

    learning_rate: float
    local_steps: int | None = None
    epochs: int = 1
    batch_size: int | None = None
    optimizer: str | optax.GradientTransformation = "sgd"
    momentum: float = 0.9
    order: str | tuple[tuple[int, ...], ...] | None = None
    clients: int = 1

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if not _is_number(rate) or not 0 < rate < math.inf:
            raise InputError(f"learning_rate is {rate!r}; expected a positive number")
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum!r}; expected 0 to below 1")
        for name in ("local_steps", "batch_size"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_positive("epochs", self.epochs)
        check_positive("clients", self.clients)
        if self.local_steps is not None and self.epochs != 1:
            raise InputError(
                f"epochs is {self.epochs} and local_steps {self.local_steps}; expected "
                "one of the two"
            )
        if not isinstance(self.optimizer, optax.GradientTransformation):
            check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if isinstance(self.order, str):
            check_choice("order", self.order, ("shuffled",))
        elif self.order is not None:
            object.__setattr__(self, "order", self._checked_order(self.order))

    def _checked_order(self, order: Any) -> tuple[tuple[int, ...], ...]:
        try:
            indices = np.asarray(order)
        except ValueError:
            raise InputError(
                "order is ragged; expected integers [steps, batch_size]"
            ) from None
        shape = indices.shape
        if (
            len(shape) != 2
            or not np.issubdtype(indices.dtype, np.integer)
            or 0 in shape
        ):
            raise InputError(
                f"order is {indices.dtype} of shape {shape}; expected integers "
                "[steps, batch_size]"
            )
        steps, size = self.local_steps or shape[0], self.batch_size or shape[1]
        if shape != (steps, size):
            raise InputError(
                f"order has shape {shape}; expected {(steps, size)}, local_steps by "
                "batch_size"
            )
        return tuple(tuple(row) for row in indices.tolist())

    @property
    def order_known(self) -> bool:
        """Whether who has this record knows which examples met in which step."""
        return self.order != "shuffled"

    def shape(self, num_examples: int) -> tuple[int, int]:
        """`(steps, batch_size)` of one client.

        Args:
          num_examples: of all clients together.

        Raises:
          InputError: the clients do not divide them, or the batch size does not
            divide a client's share, or `order` points past it.
        """
        own, left = divmod(num_examples, self.clients)
        if left or not own:
            raise InputError(
                f"clients is {self.clients}; expected a divisor of the {num_examples} "
                "examples"
            )
        if isinstance(self.order, tuple):
            low, high = (f(f(row) for row in self.order) for f in (min, max))
            if low < 0 or high >= own:
                worst = low if low < 0 else high
                raise InputError(
                    f"order holds {worst}; expected 0 to {own - 1} for {own} examples"
                )
            return len(self.order), len(self.order[0])
        size = own if self.batch_size is None else self.batch_size
        if own % size:
            raise InputError(
                f"batch_size is {size}; expected a divisor of the {own} examples"
            )
        return self.local_steps or self.epochs * own // size, size

    def indices(self, key: jax.Array, num_examples: int) -> jax.Array | np.ndarray:
        """`[steps, batch_size]`, one client's examples of each step.

        Args:
          key: draws the order where it is "shuffled".
          num_examples: N of the client, static.
        """
        steps, size = self.shape(num_examples * self.clients)
        if isinstance(self.order, tuple):
            return np.asarray(self.order, np.int32)
        epochs = -(-steps * size // num_examples)
        if self.order is None:
            passes = np.tile(np.arange(num_examples, dtype=np.int32), epochs)
        else:
            keys = jax.random.split(key, epochs)
            draw = jax.vmap(lambda k: jax.random.permutation(k, num_examples))
            passes = draw(keys).reshape(-1)
        return passes[: steps * size].reshape(steps, size)

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser, as optax has it."""
        if not isinstance(self.optimizer, str):
            return self.optimizer
        if self.optimizer == "adam":
            return adam(self.learning_rate)
        momentum = self.momentum if self.optimizer == "momentum" else None
        return optax.sgd(self.learning_rate, momentum)

    def travel(self, num_examples: int) -> float:
        """How far these steps go along a gradient that stays the same, over its size.

        `learning_rate * steps` for SGD; each step's gradient counts again in those
        that follow where there is momentum.

        Args:
          num_examples: of all clients together.

        Raises:
          InputError: the optimiser rescales entries, so that its steps hold no mean
            gradient.
        """
        return float(self._moves(num_examples).sum())

    def passage(self, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
        """Where along the delta each step takes its gradient, and how much that counts.

        For gradients that stay the same: the weights of step t are those before plus
        `places[t]` times the delta, up to the square of the delta.

        Args:
          num_examples: of all clients together.

        Returns:
          Places, `[steps]` from 0 to below 1, and shares of the mean gradient,
          `[steps]` of sum 1.

        Raises:
          InputError: as `travel`.
        """
        moves = self._moves(num_examples)
        # The first step's gradient echoes in all that follow.
        return (np.cumsum(moves) - moves) / moves.sum(), moves[::-1] / moves.sum()

    def _moves(self, num_examples: int) -> np.ndarray:
        """`[steps]`, how far each step goes along a gradient that stays the same."""
        if self.optimizer not in ("sgd", "momentum"):
            raise InputError(
                f"optimizer is {self.optimizer!r}; expected 'sgd' or 'momentum', whose "
                "steps hold a mean gradient"
            )
        steps, _ = self.shape(num_examples)
        decay = self.momentum if self.optimizer == "momentum" else 0.0
        counted = np.arange(1, steps + 1)
        return self.learning_rate * (1 - decay**counted) / (1 - decay)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
