"""Networks from archives, graphs sampled from them, and one's own graphs."""

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from jaxinv.data.graphs import network_files, samples
from jaxinv.data.graphs.attributed import from_arrays, from_networkx
from jaxinv.data.graphs.citations import load_citations
from jaxinv.data.graphs.ego import load_ego
from jaxinv.data.graphs.networks import network_spec, subgraph
from jaxinv.data.graphs.samples import (
    SIZE_MIX,
    citation_samples,
    drawn_sizes,
    ego_samples,
)
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec


def data_file(name):
    path = Path(os.environ.get("JAXINV_DATA", "")) / name
    if not os.environ.get("JAXINV_DATA") or not path.exists():
        pytest.skip(f"needs {name} under JAXINV_DATA")
    return path


def arrays(**changes):
    """A path of four nodes and a fifth alone; node 3 has no word, 4 no label."""
    edges = [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]
    held = {
        "edge_index": np.array(edges, np.int32),
        "x_indptr": np.array([0, 2, 3, 4, 4, 6], np.int32),
        "x_indices": np.array([2, 0, 1, 1, 0, 1], np.int32),
        "x_shape": np.array([5, 3], np.int32),
        "y": np.array([0, 2, 2, 1, -1], np.int32),
    }
    return {**held, **changes}


def written(tmp_path, **changes):
    path = tmp_path / "n.npz"
    np.savez(path, **{k: v for k, v in arrays(**changes).items() if v is not None})
    return path


@pytest.fixture
def small(tmp_path):
    return load_citations(written(tmp_path))


def random_network(tmp_path, num=60, seed=0):
    """A connected network of random words, labels in three classes."""
    rng = np.random.default_rng(seed)
    links = np.array(nx.connected_watts_strogatz_graph(num, 4, 0.2, seed=seed).edges).T
    words = rng.random((num, 12)) < 0.4
    path = written(
        tmp_path,
        edge_index=links,
        x_indptr=np.cumsum([0, *words.sum(1)]),
        x_indices=np.nonzero(words)[1],
        x_shape=np.array(words.shape),
        y=rng.integers(0, 3, num),
        gender=rng.integers(-1, 2, num),
    )
    return path, words


def test_an_archive_is_read(small):
    assert (small.num_nodes, small.num_features, small.name) == (5, 3, "n.npz")
    assert [small.neighbours(i).tolist() for i in range(5)] == [
        [1],
        [0, 2],
        [1, 3],
        [2],
        [],
    ]
    expected = [[1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]]
    np.testing.assert_array_equal(small.features(np.arange(5)), expected)


def test_edges_from_one_end_say_the_same(small, tmp_path):
    one_way = np.array([[0, 2, 2, 2], [1, 1, 3, 3]])
    other = load_citations(written(tmp_path, edge_index=one_way))
    np.testing.assert_array_equal(other.neighbours_indices, small.neighbours_indices)
    np.testing.assert_array_equal(other.neighbours_indptr, small.neighbours_indptr)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y": None}, r"expected \['y'\] as well"),
        ({"y": np.zeros(4, np.int32)}, "x_shape is .* y has 4 entries"),
        ({"y": np.array([0, 1, 2, np.nan, 1])}, "y is float64"),
        ({"y": np.array([0, 1, 2, 3, 9])}, "y has values 0 to 9"),
        ({"y": np.full((5, 1), 1)}, r"y is int64 \(5, 1\)"),
        ({"y": np.zeros(0, np.int32), "x_shape": np.array([0, 3])}, "y has 0"),
        ({"x_shape": np.array([5, 3, 1])}, "x_shape is"),
        ({"x_shape": np.array([5, 2**31])}, "1 to 100000 features"),
        ({"x_shape": np.array([5, 0])}, "1 to 100000 features"),
        ({"x_shape": np.array([5, 2])}, "x_indices has values 0 to 2; expected 0 to 1"),
        ({"x_indices": np.array([2, 0, -1, 1, 0, 1])}, "x_indices has values -1"),
        ({"x_indices": np.array([2, 2, 1, 1, 0, 1])}, "a node twice"),
        ({"x_indices": np.zeros(7, int)}, "x_indptr has 6 entries"),
        ({"x_indptr": np.array([0, 3, 2, 4, 4, 6])}, "x_indptr goes down"),
        ({"x_indptr": np.array([0, 6])}, "expected 6 from 0"),
        ({"edge_index": np.array([[0, 1, 2]])}, r"expected \[2, E\]"),
        ({"edge_index": np.array([[0], [5]])}, "edge_index has values 0 to 5"),
        ({"edge_index": np.array([[3], [3]])}, "joins node 3 to itself"),
        ({"edge_index": np.array([[0.0], [np.nan]])}, "edge_index is float64"),
        ({"edge_index": np.array([[{}], [{}]])}, "pickled"),
    ],
)
def test_bad_archives_are_refused_in_one_line(tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_citations(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("n.npz: ")


def test_bad_files_are_refused(tmp_path, monkeypatch):
    path = written(tmp_path)
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:300])
    (tmp_path / "n.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cut\.npz: not a readable \.npz"):
        load_citations(tmp_path / "cut.npz")
    with pytest.raises(InputError, match=r"expected a \.npz"):
        load_citations(tmp_path / "n.csv")
    with pytest.raises(InputError, match=r"expected \['gender'\] as well"):
        load_ego(path)
    with pytest.raises(OSError):
        load_ego(tmp_path / "missing.npz")
    monkeypatch.setattr(network_files, "MAX_FEATURES", 2)
    with pytest.raises(InputError, match="1 to 2 features"):
        load_citations(path)


def test_a_subgraph_states_the_degrees_inside_it(small):
    spec = network_spec(small, max_degree=4)
    assert spec.num_classes == 3 and spec.num_features == 8
    np.testing.assert_allclose(spec.mean[:3], [0.4, 0.6, 0.2])
    np.testing.assert_allclose(spec.std[:3], np.sqrt([0.24, 0.24, 0.16]))
    found = subgraph(small, [2, 1, 4], spec, 1)
    np.testing.assert_array_equal(found.adjacency, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert spec.degrees(found.features).tolist() == [1, 1, 0]
    np.testing.assert_array_equal(
        found.features[:, :3], small.features(np.array([2, 1, 4]))
    )
    plain = network_spec(small, degree=False, num_classes=6)
    assert (plain.degree, plain.num_features, plain.num_classes) == (None, 3, 6)
    assert subgraph(small, [0], plain, 5).features.shape == (1, 3)
    for nodes, message in [([0, 0], "distinct"), ([], "distinct"), ([5], "0 to 4")]:
        with pytest.raises(InputError, match=message):
            subgraph(small, nodes, spec, 0)
    with pytest.raises(InputError, match="has degree 2; the spec states at most 1"):
        subgraph(small, [0, 1, 2], network_spec(small, max_degree=1), 0)


def test_sizes_are_drawn_in_their_proportions():
    sizes = drawn_sizes()
    for count, least, most in SIZE_MIX:
        assert sizes.count((least, most)) == count
    assert sizes == drawn_sizes() != drawn_sizes(seed=1)
    assert drawn_sizes(7) == sizes[:7] and len(drawn_sizes(130)) == 130
    with pytest.raises(InputError, match="num is 0"):
        drawn_sizes(0)


@pytest.mark.parametrize("degree", [True, False])
def test_samples_have_the_sizes_asked_for(tmp_path, degree):
    path, words = random_network(tmp_path)
    sizes = [(1, 12), (5, 20), (10, 30)] * 4
    for network, sampler in (
        (load_citations(path), citation_samples),
        (load_ego(path), ego_samples),
    ):
        if sampler is citation_samples:
            sizes = [(1, 30), (20, 50), (30, 60)] * 4
        drawn = sampler(network, sizes=sizes, seed=1, degree=degree)
        again = sampler(network, sizes=sizes, seed=1, degree=degree)
        assert len(drawn.graphs) == 12
        for one, same, (least, most), nodes in zip(
            drawn.graphs, again.graphs, sizes, drawn.nodes, strict=True
        ):
            assert least <= one.num_nodes <= most
            np.testing.assert_array_equal(one.features, same.features)
            np.testing.assert_array_equal(one.features[:, :12], words[nodes])
            assert len(np.unique(one.features, axis=0)) == one.num_nodes
            if sampler is ego_samples:
                assert nx.is_connected(nx.from_numpy_array(one.adjacency))
            else:
                counts = np.bincount(network.labels[nodes])
                assert counts[one.labels] == counts.max()
        np.testing.assert_allclose(drawn.spec.mean[:12], words.mean(0))
        if degree:
            rows = np.concatenate([one.features for one in drawn.graphs]).astype(float)
            np.testing.assert_allclose(drawn.spec.mean[12:], rows[:, 12:].mean(0))
            np.testing.assert_allclose(drawn.spec.std[12:], rows[:, 12:].std(0))


def test_what_cannot_be_sampled_is_said(small, monkeypatch):
    monkeypatch.setattr(samples, "MAX_TRIES", 50)
    with pytest.raises(InputError, match=r"sizes has \(0, 3\)"):
        ego_samples(small, sizes=[(0, 3)])
    with pytest.raises(InputError, match="50 draws found no such graph"):
        ego_samples(small, sizes=[(5, 5)])  # in two pieces
    # Words alone do not tell nodes 1 and 2 apart, nor do their degrees inside.
    with pytest.raises(InputError, match="of nodes that all differ"):
        ego_samples(small, sizes=[(4, 4)])
    found = ego_samples(small, sizes=[(4, 4)], distinct=False)
    assert found.graphs[0].num_nodes == 4 and found.alike == 0
    unlabelled = small._replace(labels=np.full(5, -1, np.int32))
    with pytest.raises(InputError, match="num_classes is 0"):
        citation_samples(unlabelled, sizes=[(1, 5)])


def test_own_arrays_become_a_graph():
    found, spec = from_arrays([[1, 0], [1, 1], [0, 1]], [[0, 1], [1, 0]], 1)
    np.testing.assert_array_equal(found.adjacency, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert [group.name for group in spec.groups] == ["words"] and spec.degree is None
    found, spec = from_arrays([[1], [0]], [[0, 1]], [0, 1], degree=True)
    assert spec.task == "node" and spec.degrees(found.features).tolist() == [1, 1]
    own = GraphSpec((FeatureGroup("a", 2), FeatureGroup("d", 4)), 2, degree="d")
    found, _ = from_arrays([[1, 0], [0, 1]], [], 1, spec=own)
    assert found.features.shape == (2, 6)


@pytest.mark.parametrize(
    "features, edges, label, message",
    [
        ([[0.5]], [], 0, "features holds values other than 0 and 1"),
        ([[np.nan]], [], 0, "features holds values other than 0 and 1"),
        ([["a"]], [], 0, "features holds what are no numbers"),
        ([[1], [1, 0]], [], 0, "features holds what are no numbers"),
        ([1, 0], [], 0, r"features has shape \(2,\)"),
        ([[1]], [[0, 1]], 0, "beyond nodes 0 to 0"),
        ([[1]], [[0, 0]], 0, "self loops"),
        ([[1], [0]], [0, 1], 0, r"edges is int64 \(2,\)"),
        ([[1], [0]], [[0.0, 1.0]], 0, "edges is float64"),
        ([[1]], [], 2, "labels goes beyond"),
        ([[1]], [], 0.5, "labels is float64"),
    ],
)
def test_bad_arrays_are_refused(features, edges, label, message):
    with pytest.raises(InputError, match=message) as caught:
        from_arrays(features, edges, label)
    assert "\n" not in str(caught.value)


def test_a_spec_of_other_columns_is_refused():
    own = GraphSpec((FeatureGroup("d", 4), FeatureGroup("a", 2)), 2, degree="d")
    with pytest.raises(InputError, match="features has 2 columns; expected 0"):
        from_arrays([[1, 0]], [], 0, spec=own)


def test_networkx_graphs_keep_their_order():
    source = nx.Graph()
    source.add_node("b", x=[1, 0], y=1)
    source.add_node("a", x=np.array([0, 1]), y=0)
    source.add_edge("a", "b")
    found, spec = from_networkx(source, label="y", degree=True)
    np.testing.assert_array_equal(found.features[:, :2], [[1, 0], [0, 1]])
    assert found.labels.tolist() == [1, 0] and spec.task == "node"
    found, spec = from_networkx(source, label=1)
    assert found.labels == 1 and spec.task == "graph"
    for change, options, message in [
        (lambda g: g, {"features": "z"}, "node 'b' has no attribute 'z'"),
        (lambda g: g.add_node("c", x=[1]), {}, "'x' differs in length"),
        (lambda g: g.add_node("d"), {}, "node 'd' has no attribute 'x'"),
    ]:
        change(source)
        with pytest.raises(InputError, match=message):
            from_networkx(source, label=0, **options)
        source.remove_nodes_from(["c", "d"])
    with pytest.raises(InputError, match="directed"):
        from_networkx(nx.DiGraph(), label=0)
    with pytest.raises(InputError, match="no nodes"):
        from_networkx(nx.Graph(), label=0)


@pytest.mark.parametrize(
    "name, load, sampler, shape",
    [
        ("citeseer.npz", load_citations, citation_samples, (3327, 3703, 9104)),
        ("facebook_ego.npz", load_ego, ego_samples, (4039, 1406, 176468)),
    ],
)
def test_real_networks_are_read_and_sampled(name, load, sampler, shape):
    network = load(data_file(name))
    found = network.num_nodes, network.num_features, len(network.neighbours_indices)
    assert found == shape
    drawn = sampler(network, sizes=drawn_sizes(10))
    assert len(drawn.graphs) == 10
    assert drawn.spec.num_features == shape[1] + 100 and drawn.spec.num_classes == 6
