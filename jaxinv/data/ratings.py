"""Ratings of items by users: readers, a generated default, groups of equal length."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxinv.data.archive import array, header, names, open_archive
from jaxinv.data.bounded import check_bytes, read_bytes
from jaxinv.errors import InputError, tamed

# Names of a column, as MovieLens's files and their kin have them.
COLUMNS = {
    "user": ("user", "userid", "user_id"),
    "item": ("item", "itemid", "item_id", "movieid", "movie_id"),
    "rating": ("rating", "ratings", "score"),
}


class Ratings(NamedTuple):
    """Who rated what how; users and items are numbered from 0, pairs are distinct."""

    user: np.ndarray
    """`[R]` int32."""
    item: np.ndarray
    """`[R]` int32."""
    rating: np.ndarray
    """`[R]` float32, in the units of the data set."""
    num_users: int
    """More than every user."""
    num_items: int
    """More than every item."""
    name: str
    """Of the source, for reports."""

    def of(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and ratings of one user, in the order of the items."""
        rows = np.flatnonzero(self.user == user)
        rows = rows[np.argsort(self.item[rows])]
        return self.item[rows], self.rating[rows]


class Group(NamedTuple):
    """Users whose lists are padded to one length, so that they are one array."""

    users: np.ndarray
    """`[U]` int32."""
    items: np.ndarray
    """`[U, N]` int32; what is left over holds item 0."""
    ratings: np.ndarray
    """`[U, N]` float64; what is left over holds 0."""
    rated: np.ndarray
    """`[U, N]` float64, 1 for a rating, 0 for what is left over."""


def load_ratings(path: Path) -> Ratings:
    """Reads a csv with a header line, or an `.npz` of three vectors.

    Args:
      path: columns or arrays named as in `COLUMNS`, case aside; others are ignored.

    Raises:
      InputError: not readable, a column missing, numbers out of range, a user who
        rates an item twice.
      OSError: the system refuses to open or read it.
    """
    path = Path(path)
    readers = {".npz": _from_npz, ".csv": _from_csv}
    if path.suffix.lower() not in readers:
        raise InputError(f"data is {path.name!r}; expected a .csv or .npz of ratings")
    try:
        return _checked(readers[path.suffix.lower()](path), path.name)
    except InputError as error:
        raise InputError(f"{path.name}: {tamed(error)}") from None


def generated_ratings(
    num_users: int = 40, num_items: int = 120, seed: int = 0
) -> Ratings:
    """Ratings on half stars, drawn from a model of taste; the embedded default.

    Each user rates 20 to 60 items, popular ones more often. A rating is the item's
    quality plus the user's mood plus the match of three tastes plus noise. They are
    no one's.
    """
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(num_users, 3)), rng.normal(size=(num_items, 3))
    quality, mood = rng.normal(3.5, 0.5, num_items), rng.normal(0, 0.4, num_users)
    popular = rng.dirichlet(np.full(num_items, 0.8)) + 0.2 / num_items
    users, items, values = [], [], []
    for user in range(num_users):
        count = rng.integers(20, min(60, num_items) + 1)
        chosen = rng.choice(num_items, count, False, popular / popular.sum())
        drawn = quality[chosen] + mood[user] + 0.5 * kind[chosen] @ taste[user]
        drawn = drawn + rng.normal(0, 0.4, count)
        users += [user] * count
        items += chosen.tolist()
        values += np.clip(np.round(2 * drawn) / 2, 0.5, 5).tolist()
    return Ratings(
        np.asarray(users, np.int32),
        np.asarray(items, np.int32),
        np.asarray(values, np.float32),
        num_users,
        num_items,
        "generated ratings",
    )


def grouped(
    ratings: Ratings,
    users: Sequence[int],
    *,
    scale: float = 1.0,
    growth: float = 2.0,
    every_item: bool = False,
) -> list[Group]:
    """Users by the length of their lists, each group padded to its longest.

    Args:
      ratings: of all users.
      users: which, in any order.
      scale: what ratings are divided by.
      growth: the longest list of a group is at most this many times the shortest, so
        that little is computed in vain.
      every_item: whether each list holds every item of the catalogue in its place,
        `rated` 1 for the user's own; then all are one group.

    Raises:
      InputError: a user is unknown or has no rating.
    """
    lists = {}
    for user in users:
        if not 0 <= user < ratings.num_users:
            raise InputError(f"user is {user}; expected 0 to {ratings.num_users - 1}")
        lists[user] = ratings.of(user)
        if not len(lists[user][0]):
            raise InputError(f"user {user} has no rating; expected at least one")
    order = sorted(lists, key=lambda u: (len(lists[u][0]), u))
    groups: list[list[int]] = []
    for user in order:
        shortest = len(lists[groups[-1][0]][0]) if groups else 0
        if not groups or len(lists[user][0]) > growth * shortest:
            groups.append([])
        groups[-1].append(user)
    if every_item:
        groups = [order]
    width = ratings.num_items if every_item else None
    return [
        _laid(group, [lists[user] for user in group], scale, width) for group in groups
    ]


def _laid(
    users: list[int],
    lists: list[tuple[np.ndarray, np.ndarray]],
    scale: float,
    every: int | None,
) -> Group:
    """Each user's items side by side, or each in its place among `every` item."""
    shape = (len(users), every or max(len(items) for items, _ in lists))
    items, ratings = np.zeros(shape, np.int32), np.zeros(shape)
    rated = np.zeros(shape)
    if every is not None:
        items[:] = np.arange(every)
    for row, (item, rating) in enumerate(lists):
        places = np.arange(len(item)) if every is None else item
        items[row, places] = item
        ratings[row, places] = rating / scale
        rated[row, places] = 1
    return Group(np.asarray(users, np.int32), items, ratings, rated)


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    with open_archive(path) as archive:
        found = _named(names(archive))
        heads = {key: header(archive, key) for key in found.values()}
        check_bytes(sum(size for *_, size in heads.values()), f"arrays {list(heads)}")
        for key, (shape, dtype, _) in heads.items():
            if len(shape) != 1 or dtype.kind not in "iuf":
                raise InputError(f"{key} is {dtype} {shape}, expected numbers [R]")
        return {column: array(archive, key) for column, key in found.items()}


def _from_csv(path: Path) -> dict[str, np.ndarray]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"not a readable .csv ({error})") from error
    titles = [title.strip() for title in rows[0]] if rows else []
    found = _named(titles)
    place = {column: titles.index(title) for column, title in found.items()}
    columns: dict[str, list[float]] = {column: [] for column in place}
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        for column, index in place.items():
            try:
                columns[column].append(float(row[index]))
            except (IndexError, ValueError):
                raise InputError(
                    f"line {line} has no number for {found[column]!r}"
                ) from None
    return {column: np.asarray(values) for column, values in columns.items()}


def _named(titles: list[str]) -> dict[str, str]:
    lower = {title.lower(): title for title in reversed(titles)}
    found = {}
    for column, known in COLUMNS.items():
        title = next((lower[name] for name in known if name in lower), None)
        if title is None:
            raise InputError(
                f"holds {titles[:8]}, expected one of {', '.join(known)} for the "
                f"{column}"
            )
        found[column] = title
    return found


def _checked(columns: dict[str, np.ndarray], name: str) -> Ratings:
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise InputError(f"holds columns of {lengths} rows; expected as many in each")
    numbered = {}
    for column in ("user", "item"):
        values = columns[column]
        if not np.all(np.isfinite(values)) or np.any(values != np.round(values)):
            raise InputError(f"{column} holds what is no whole number")
        # Whatever the names were, rows are numbered in their order.
        known, numbered[column] = np.unique(values, return_inverse=True)
        lengths[column] = len(known)
    rating = columns["rating"]
    if not np.all(np.isfinite(rating)) or np.any(rating <= 0):
        raise InputError("rating holds what is not finite or not above 0")
    pairs = np.stack([numbered["user"], numbered["item"]], 1)
    if len(np.unique(pairs, axis=0)) < len(pairs):
        raise InputError("a user rates an item twice; expected one rating of each")
    return Ratings(
        numbered["user"].astype(np.int32),
        numbered["item"].astype(np.int32),
        rating.astype(np.float32),
        lengths["user"],
        lengths["item"],
        name,
    )
