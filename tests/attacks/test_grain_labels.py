"""GRAIN: the labels of graphs and of nodes."""

import numpy as np
import pytest
from small_graphs import SIZES, UNIQUE, attacked, drawn, sent, victim

from jaxinv.isomorphism import isomorphic, isomorphism

pytestmark = pytest.mark.usefixtures("compiled_quickly")

PATH = [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", SIZES)
def test_the_label_is_read_from_the_output_bias(name, label):
    of = victim(name)
    path = drawn(list(range(4)), PATH, label)
    found = attacked(sent(path, of), of)
    assert isomorphic(path, found.graph)
    assert all(np.shape(g.labels) == () and g.labels == label for g in found.graphs)


NODE_TASKS = {
    "single node": ([0], [], [1]),
    "two nodes": ([0, 1], [(0, 1)], [1, 0]),
    "path": ([0, 1, 2, 3], PATH, [0, 1, 1, 0]),
    # Two nodes that look alike may still have different labels.
    "alike": ([0, 1, 0], [(0, 1), (1, 2)], [1, 1, 0]),
}


@pytest.mark.parametrize("case", NODE_TASKS)
def test_labels_of_nodes_come_with_the_graph(case):
    of = victim("gcn", "node")
    kinds, edges, labels = NODE_TASKS[case]
    secret = drawn(kinds, edges, labels)
    found = attacked(sent(secret, of), of)
    assert found.certificate is UNIQUE
    order = isomorphism(secret, found.graph)
    given = found.graph.labels[order]
    if case == "alike":
        given = np.r_[np.sort(given[[0, 2]])[::-1], given[1]][[0, 2, 1]]
    np.testing.assert_array_equal(given, labels)
