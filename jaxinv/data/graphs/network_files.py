"""A network out of a `.npz` archive that nobody vouches for, never through pickle.

The archive has `edge_index` [2, E], binary features as the three arrays of a sparse
matrix by rows (`x_indptr`, `x_indices`, `x_shape`; every value stored is 1), and one
vector of labels with -1 for none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from jaxinv.data.archive import array, header, names, open_archive
from jaxinv.data.bounded import check_bytes
from jaxinv.data.graphs.networks import Network
from jaxinv.errors import InputError

MAX_FEATURES = 100_000
"""Columns: a spec holds two numbers for each, and a graph a row of them per node."""

DIMENSIONS = {"edge_index": 2, "x_indptr": 1, "x_indices": 1, "x_shape": 1}


def read_network(path: Path, labels: str) -> Network:
    """Reads the arrays above, labels from the array of the given name.

    Edges count from both ends however often they are stated.

    Raises:
      InputError: damaged, an array is missing, is not of whole numbers, has a wrong
        shape, or points outside the network.
      OSError: the system refuses to open or read it.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise InputError(f"network is {path.name!r}; expected a .npz archive")
    try:
        return _checked(_arrays(path, labels), labels, path.name)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def _arrays(path: Path, labels: str) -> dict[str, np.ndarray]:
    wanted = {**DIMENSIONS, labels: 1}
    with open_archive(path) as archive:
        held = names(archive)
        missing = [key for key in wanted if key not in held]
        if missing:
            raise InputError(f"holds arrays {held[:8]}, expected {missing} as well")
        heads = {key: header(archive, key) for key in wanted}
        check_bytes(sum(size for *_, size in heads.values()), f"arrays {list(heads)}")
        for key, (shape, dtype, _) in heads.items():
            if dtype.kind not in "iu" or len(shape) != wanted[key]:
                raise InputError(
                    f"{key} is {dtype} {shape}, expected whole numbers in "
                    f"{wanted[key]} dimension{'s' * (wanted[key] > 1)}"
                )
        return {key: array(archive, key).astype(np.int64) for key in wanted}


def _checked(arrays: dict[str, np.ndarray], labels: str, name: str) -> Network:
    shape, y = arrays["x_shape"].tolist(), arrays[labels]
    num = len(y)
    if len(shape) != 2 or not num or shape[0] != num:
        raise InputError(
            f"x_shape is {shape[:3]} and {labels} has {num} entries; expected nodes, "
            "features, and one label for each node"
        )
    if not 1 <= shape[1] <= MAX_FEATURES:
        raise InputError(f"x_shape is {shape}; expected 1 to {MAX_FEATURES} features")
    # No more classes than nodes: a class that large is no class.
    _within(labels, y, -1, num - 1)
    indptr = _features(arrays["x_indptr"], arrays["x_indices"], shape)
    edges = arrays["edge_index"]
    if len(edges) != 2:
        raise InputError(f"edge_index has shape {edges.shape}, expected [2, E]")
    _within("edge_index", edges, 0, num - 1)
    if (edges[0] == edges[1]).any():
        node = int(edges[0][(edges[0] == edges[1]).argmax()])
        raise InputError(f"edge_index joins node {node} to itself; expected no loops")
    ends = np.concatenate([edges, edges[::-1]], 1)
    both = csr_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(num, num))
    both.sum_duplicates()
    words = csr_array(
        (np.ones(len(arrays["x_indices"]), bool), arrays["x_indices"], indptr),
        shape=tuple(shape),
    )
    words.sort_indices()
    return Network(
        words.indptr.astype(np.int64),
        words.indices.astype(np.int64),
        shape[1],
        both.indptr.astype(np.int64),
        both.indices.astype(np.int64),
        y.astype(np.int32),
        name,
    )


def _features(indptr: np.ndarray, indices: np.ndarray, shape: list[int]) -> np.ndarray:
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or indptr[-1] != len(indices):
        raise InputError(
            f"x_indptr has {len(indptr)} entries, expected {shape[0] + 1} from 0 to "
            f"{len(indices)}, the length of x_indices"
        )
    counts = np.diff(indptr)
    if (counts < 0).any():
        raise InputError("x_indptr goes down; expected rows one after another")
    _within("x_indices", indices, 0, shape[1] - 1)
    cells = np.repeat(np.arange(shape[0]), counts) * shape[1] + indices
    if len(np.unique(cells)) < len(cells):
        raise InputError("x_indices names a column of a node twice; expected once")
    return indptr


def _within(key: str, values: np.ndarray, least: int, most: int) -> None:
    if values.size and (values.min() < least or values.max() > most):
        raise InputError(
            f"{key} has values {values.min()} to {values.max()}; expected "
            f"{least} to {most}"
        )
