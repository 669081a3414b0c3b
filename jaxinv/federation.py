"""A small federated trainer of recommenders: it makes the rounds a server observes.

Full-batch steps of gradient descent on the client's own ratings, one each round: the
client updates its embedding, the server the public part. What the server sees of a
client at round m is the public part it sent and the gradient that came back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.data.ratings import Group, Ratings
from jaxinv.errors import InputError
from jaxinv.models.recommenders import Profile, Recommender
from jaxinv.observation import Knowledge, Observation


class Rounds(NamedTuple):
    """Snapshots of a training, one for each observed round."""

    public: Any
    """What the server sent, leaves `[rounds, ...]`."""
    update: Any
    """The client's gradients, leaves `[rounds, ...]`."""
    users: jax.Array
    """`[rounds, D]`, the client's embedding at each; the attacker never has it."""


def train_alone(
    model: Recommender,
    public: Any,
    profile: Profile,
    steps: jax.Array,
    learning_rate: float | jax.Array,
) -> Rounds:
    """Rounds of a training in which only this client takes part; pure, for vmap.

    Args:
      model: what is trained.
      public: its public part at step 0, `items` `[N, D]` for the profile's items.
      profile: the client's secret, with the embedding it starts from.
      steps: `[rounds]` ascending integers, the steps whose rounds are observed; a
        change of them compiles nothing anew.
      learning_rate: of client and server.
    """
    slopes = jax.grad(model.loss, (0, 1))

    def gradients(public: Any, user: jax.Array) -> tuple[Any, jax.Array]:
        mine, private = slopes(public, profile._replace(user=user))
        return mine, private.user

    def step(_: Any, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        moved = [
            jax.tree.map(lambda x, g: x - learning_rate * g, x, g)
            for x, g in zip(state, gradients(*state), strict=True)
        ]
        return moved[0], moved[1]

    def until(carry: Any, goal: jax.Array) -> tuple[Any, Rounds]:
        done, state = carry
        state = jax.lax.fori_loop(done, goal, step, state)
        update, _ = gradients(*state)
        return (goal, state), Rounds(state[0], update, state[1])

    start = (jnp.zeros((), steps.dtype), (public, profile.user))
    return jax.lax.scan(until, start, steps)[1]


class Training(NamedTuple):
    """Snapshots of a training in which everyone takes part."""

    public: Any
    """Leaves `[rounds, ...]`, `items` for all items."""
    users: jax.Array
    """`[rounds, users, D]`."""
    errors: jax.Array
    """`[rounds]`, the mean loss over the clients."""


def train_together(
    model: Recommender,
    public: Any,
    users: jax.Array,
    pairs: tuple[np.ndarray, ...],
    steps: jax.Array,
    learning_rate: float | jax.Array,
    *,
    server: str = "sum",
) -> Training:
    """Rounds of a training in which every client takes part in every step.

    Args:
      model: what is trained.
      public: its public part at step 0.
      users: `[users, D]`, the embeddings the clients start from.
      pairs: user, item and rating (in a profile's units) `[R]` each.
      steps: `[rounds]` ascending integers, as for `train_alone`.
      learning_rate: of clients and server.
      server: "sum" adds the clients' gradients up, which suits items that few clients
        rate; "mean" averages over the clients, which suits layers that all share.

    Raises:
      InputError: `server` is unknown.
    """
    if server not in ("sum", "mean"):
        raise InputError(f"server is {server!r}; expected 'sum' or 'mean'")
    user, item, rating = (jnp.asarray(part) for part in pairs)
    num_users = users.shape[0]
    counts = jax.ops.segment_sum(jnp.ones_like(rating), user, num_users)
    share = 1 / counts[user]

    def total(public: Any, users: jax.Array) -> jax.Array:
        # Summed over clients: each embedding's slope is then its own client's.
        rows = {**public, "items": public["items"][item]}
        return jnp.sum(model.pair_losses(rows, users[user], rating) * share)

    scale = 1.0 if server == "sum" else 1 / num_users

    def step(_: Any, state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        slopes = jax.grad(total, (0, 1))(*state)
        moved = [
            jax.tree.map(lambda x, g, by=by: x - by * learning_rate * g, x, g)
            for x, g, by in zip(state, slopes, (scale, 1.0), strict=True)
        ]
        return moved[0], moved[1]

    def until(carry: Any, goal: jax.Array) -> tuple[Any, Training]:
        done, state = carry
        state = jax.lax.fori_loop(done, goal, step, state)
        public, users = state
        error = total(public, users) / num_users
        return (goal, state), Training(public, users, error)

    start = (jnp.zeros((), steps.dtype), (public, users))
    return jax.lax.scan(until, start, steps)[1]


def rounds_of(
    model: Recommender, training: Training, items: jax.Array, profile: Profile
) -> Rounds:
    """What the server saw of one client of `train_together`; pure, for vmap.

    Args:
      model: what was trained.
      training: its snapshots.
      items: `[N]` integers, the client's items.
      profile: its secret; `user` `[rounds, D]`, its embedding at each round.
    """

    def one(public: Any, user: jax.Array) -> Rounds:
        public = {**public, "items": public["items"][items]}
        update = jax.grad(model.loss)(public, profile._replace(user=user))
        return Rounds(public, update, user)

    return jax.vmap(one)(training.public, profile.user)


def observed_steps(start: int, interval: int, rounds: int) -> np.ndarray:
    """`[rounds]`: `start`, `start + interval`, and so on.

    Raises:
      InputError: an argument is out of range.
    """
    for name, value, least in (
        ("start", start, 0),
        ("interval", interval, 1),
        ("rounds", rounds, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; expected {least} or more")
    return np.asarray(start + interval * np.arange(rounds), np.int32)


class Clients(NamedTuple):
    """Clients side by side: what the server saw of each, and the truth."""

    observed: Observation
    """Every leaf with a leading axis `[clients]`."""
    profiles: Profile
    """The secrets, leaves `[clients, ...]`, `user` `[clients, rounds, D]`."""


def observed_alone(
    key: jax.Array,
    model: Recommender,
    group: Group,
    num_items: int,
    steps: np.ndarray,
    learning_rate: float,
) -> Clients:
    """Each client of a group as if it alone had trained; one compiled call.

    Args:
      key: of the starting point, the same items for all.
      model: what is trained.
      group: the clients, ratings in a profile's units.
      num_items: of the data set.
      steps: `[rounds]`, from `observed_steps`.
      learning_rate: of client and server.
    """

    def one(public: Any, items: jax.Array, profile: Profile) -> Rounds:
        public = {**public, "items": public["items"][items]}
        return train_alone(model, public, profile, jnp.asarray(steps), learning_rate)

    @jax.jit
    def run(key: jax.Array, items: jax.Array, held: Profile) -> Rounds:
        public, users = start(key, model, num_items, group.users)
        held = held._replace(user=users)
        return jax.vmap(one, in_axes=(None, 0, 0))(public, items, held)

    dtype = jnp.result_type(float)
    ratings, rated = (jnp.asarray(x, dtype) for x in (group.ratings, group.rated))
    rounds = run(key, jnp.asarray(group.items), Profile(ratings, rated, None))
    return _clients(model, rounds, Profile(ratings, rated, rounds.users))


def observed_together(model: Recommender, training: Training, group: Group) -> Clients:
    """Each client of a group in a training that all took part in.

    Args:
      model: what was trained.
      training: of `train_together`, its users numbered as the data set's.
      group: the clients, ratings in a profile's units.
    """
    dtype = jnp.result_type(float)
    ratings, rated = (jnp.asarray(x, dtype) for x in (group.ratings, group.rated))
    users = jnp.moveaxis(training.users[:, group.users], 0, 1)
    profiles = Profile(ratings, rated, users)
    run = jax.jit(jax.vmap(lambda i, p: rounds_of(model, training, i, p)))
    return _clients(model, run(jnp.asarray(group.items), profiles), profiles)


def start(
    key: jax.Array, model: Recommender, num_items: int, users: np.ndarray
) -> tuple[Any, jax.Array]:
    """The public part, and the embeddings `[users, D]` of these users, at step 0."""
    key_public, key_users = jax.random.split(key)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key_users, jnp.asarray(users))
    return model.init(key_public, num_items), jax.vmap(model.init_user)(keys)


def pairs_of(ratings: Ratings, scale: float) -> tuple[np.ndarray, ...]:
    """User, item and rating of `train_together`, in a profile's units."""
    return ratings.user, ratings.item, ratings.rating / scale


def _clients(model: Recommender, rounds: Rounds, profiles: Profile) -> Clients:
    observed = Observation(
        params=rounds.public,
        update=rounds.update,
        known=Knowledge(),
        num_examples=profiles.ratings.shape[1],
        spec=model.scale,
    )
    return Clients(observed, profiles)
