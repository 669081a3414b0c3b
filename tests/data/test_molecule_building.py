"""Molecules built back from their graphs, and graphs that are no molecules."""

import os
import time
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from jaxinv.data.graphs.bond_orders import extra_orders
from jaxinv.data.graphs.known_molecules import load_known_molecules
from jaxinv.data.graphs.molecule_building import (
    build_molecule,
    is_molecule,
    smiles_of,
)
from jaxinv.data.graphs.molecules import (
    first_shuffled,
    load_molecules,
    molecule_graph,
    molecule_spec,
)
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, Graph, GraphSpec, padded

Chem = pytest.importorskip("rdkit.Chem")
SPEC = molecule_spec()


def canonical(smiles):
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)


@pytest.mark.parametrize("known", [load_known_molecules()], ids=["known"])
def test_known_molecules_are_built_back(known):
    for smiles, graph in zip(known.smiles, known.graphs, strict=True):
        assert is_molecule(graph, known.spec), smiles
        assert smiles_of(graph, known.spec) == canonical(smiles)


@pytest.mark.parametrize(
    "smiles",
    [
        "C[N+](=O)[O-]",  # nitro
        "CS(=O)(=O)NC",  # sulfone
        "CP(=O)(O)OP(=O)(O)O",  # phosphate
        "F[P-](F)(F)(F)(F)F.c1cc[nH+]cc1",
        "[O-][Cl+3]([O-])([O-])[O-].[K+]",
        "C=[N+]=[N-]",
        "CC#CC=C=C",
        "O=C=O",
        "[C-]#[O+]",
        "O=c1cc[nH]cc1",  # a double bond out of an aromatic ring
        "c1ccc2c(c1)[nH]c1ccccc12",
        "c1ccc2cccc2cc1",  # azulene
        "C=C1C=CC=C1",  # fulvene, not aromatic
        "CS(C)(=O)=Nc1nnns1",
        "O=[Cr](=O)(O)O",
        "[13CH3]c1cc[o+]cc1",
        "[H+].[Cl-]",
        "[2H]C([2H])([2H])O",
    ],
)
def test_what_valences_allow_is_built(smiles):
    graph = molecule_graph(smiles, 0, SPEC)
    assert is_molecule(graph, SPEC)
    expected = Chem.MolToSmiles(Chem.MolFromSmiles(smiles))
    assert Chem.CanonSmiles(smiles_of(graph, SPEC)) == Chem.CanonSmiles(expected)


def test_node_order_and_padding_do_not_matter():
    graph = molecule_graph("CC(=O)Oc1ccccc1C(=O)O", 0, SPEC)
    order = np.random.default_rng(0).permutation(13)
    turned = Graph(
        graph.features[order],
        graph.adjacency[np.ix_(order, order)],
        graph.mask,
        graph.labels,
    )
    assert is_molecule(padded(turned, 20), SPEC)
    assert smiles_of(turned, SPEC) == canonical("CC(=O)Oc1ccccc1C(=O)O")
    molecule = build_molecule(turned, SPEC)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    assert numbers == [6 if graph.features[i, 4] else 8 for i in order]


def rewired(smiles, nx_graph):
    graph = molecule_graph(smiles, 0, SPEC)
    return graph._replace(adjacency=nx.to_numpy_array(nx_graph, dtype=np.float32))


def test_what_is_no_molecule_is_refused():
    triangles = nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    wrong = rewired("c1ccccc1", triangles)
    assert build_molecule(wrong, SPEC) is None and not is_molecule(wrong, SPEC)
    assert smiles_of(wrong, SPEC) is None

    twelve = rewired("c1ccccc1.c1ccccc1", nx.cycle_graph(12))
    assert not is_molecule(twelve, SPEC)  # a molecule, but not aromatic
    assert smiles_of(twelve, SPEC) == canonical("C1=CC=CC=CC=CC=CC=C1")

    ethane = molecule_graph("CC", 0, SPEC)
    apart = ethane._replace(adjacency=np.zeros((2, 2), np.float32))
    assert build_molecule(apart, SPEC) is None  # two radicals

    two = molecule_graph("CCO", 0, SPEC)
    features = two.features.copy()
    features[0, 5] = 1  # carbon and nitrogen at once
    assert not is_molecule(two._replace(features=features), SPEC)
    features = two.features.copy()
    features[0, 126:133] = 0
    assert not is_molecule(two._replace(features=features), SPEC)


def test_a_hostile_graph_is_refused_in_time():
    """A hundred bare carbons, three bonds each: many ways, and none of them real."""
    one = molecule_graph("C1(C2CC2)CC1", 0, SPEC).features[:1]
    cubic = nx.disjoint_union_all(
        [nx.random_regular_graph(3, 100, seed=0), nx.complete_graph(4)]
    )
    features = np.repeat(one, len(cubic), 0)
    features[:, 67:73] = np.eye(6)[0]  # no hydrogens: each needs a double bond
    graph = Graph(features, nx.to_numpy_array(cubic), np.ones(len(cubic)), 0)
    start = time.perf_counter()
    assert not is_molecule(graph, SPEC)
    assert time.perf_counter() - start < 5


def test_wrong_specs_are_refused():
    graph = molecule_graph("CC", 0, SPEC)
    words = GraphSpec((FeatureGroup("words", 140, False),), 2)
    with pytest.raises(InputError, match="MOLECULE_GROUPS"):
        is_molecule(graph, words)


def test_every_solution_of_a_piece_is_found():
    ring = [(i, (i + 1) % 6) for i in range(6)]
    (found,) = extra_orders([(1,)] * 6, ring, [False] * 6, max_each=9, max_steps=99)
    chosen = sorted(tuple(k for k in s if s[k]) for s in found)
    assert chosen == [(0, 2, 4), (1, 3, 5)]
    assert extra_orders([(0,), ()], [(0, 1)], [False], max_each=1, max_steps=9) == [[]]
    odd = [(0, 1), (1, 2), (2, 0)]
    (none,) = extra_orders([(1,)] * 3, odd, [False] * 3, max_each=1, max_steps=99)
    assert none == []


def test_real_molecules_are_accepted():
    name = "tox21.csv"
    path = Path(os.environ.get("JAXINV_DATA", "")) / name
    if not os.environ.get("JAXINV_DATA") or not path.exists():
        pytest.skip(f"needs {name} under JAXINV_DATA")
    found = load_molecules(path, max_molecules=600)
    chosen = first_shuffled(found, 200)
    accepted = [is_molecule(graph, found.spec) for graph in chosen.graphs]
    assert np.mean(accepted) >= 0.97
