"""A network of papers that nobody wrote: what is audited where no data is given."""

from __future__ import annotations

import networkx
import numpy as np

from jaxinv.data.graphs import Network

NAME = "generated network of 300 papers"

_FIELDS = 6
_PAPERS = 50
"""Of each field."""
_WORDS = 100
_INSIDE, _OUTSIDE = 1.7, 0.25
"""Citations of a paper on average, within its field and beyond: as sparse as Citeseer,
so that the paper's neighbourhood stays small."""
_COMMON, _OF_FIELD = 0.05, 0.35
"""Share of papers that have a word, and of those of the field that it belongs to."""


def generated_network(seed: int = 0) -> Network:
    """Papers of six fields that cite mostly their own, with binary words.

    Made like Cora, from random numbers: a partition model for the citations, words
    independent of each other given the field. A paper's label is its field.
    """
    sizes, others = [_PAPERS] * _FIELDS, _PAPERS * (_FIELDS - 1)
    cited = networkx.random_partition_graph(
        sizes, _INSIDE / _PAPERS, _OUTSIDE / others, seed=seed
    )
    labels = np.repeat(np.arange(_FIELDS, dtype=np.int32), _PAPERS)
    rng = np.random.default_rng(seed)
    field_of_word = rng.integers(0, _FIELDS, _WORDS)
    share = np.where(labels[:, None] == field_of_word, _OF_FIELD, _COMMON)
    words = [np.flatnonzero(row) for row in rng.random(share.shape) < share]
    near = [np.asarray(sorted(cited[node]), np.int64) for node in range(len(labels))]
    return Network(
        _starts(words),
        np.concatenate(words).astype(np.int64),
        _WORDS,
        _starts(near),
        np.concatenate(near),
        labels,
        NAME,
    )


def _starts(rows: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, rows)]).astype(np.int64)
