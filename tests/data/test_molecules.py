"""Molecules as graphs: one SMILES, csv files, the embedded set."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxinv.data.graphs import molecules as reader
from jaxinv.data.graphs.atoms import MASSES, MOLECULE_GROUPS, one_hot, places
from jaxinv.data.graphs.known_molecules import KNOWN_MOLECULES, load_known_molecules
from jaxinv.data.graphs.molecules import (
    first_shuffled,
    load_molecules,
    molecule_graph,
    molecule_spec,
)
from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec, graph

pytest.importorskip("rdkit")
SPEC = molecule_spec()


def data_file(name):
    path = Path(os.environ.get("JAXINV_DATA", "")) / name
    if not os.environ.get("JAXINV_DATA") or not path.exists():
        pytest.skip(f"needs {name} under JAXINV_DATA")
    return path


def test_the_groups_are_those_of_the_spec():
    sizes = [group.size for group in MOLECULE_GROUPS]
    assert sizes == [52, 6, 7, 3, 6, 57, 2, 7] and SPEC.num_features == 140
    assert SPEC.columns("degree") == slice(58, 65)
    assert (len(MASSES), SPEC.task, SPEC.num_classes) == (57, "graph", 2)


def test_a_molecule_is_the_graph_one_would_draw():
    found = molecule_graph("C[C@H](N)C(=O)[O-].[Na+]", 1, SPEC)
    assert found.num_nodes == 7 and found.labels == 1
    bonds = np.argwhere(np.triu(found.adjacency)).tolist()
    assert bonds == [[0, 1], [1, 2], [1, 3], [3, 4], [3, 5]]
    element, charge, degree, chirality, hydrogens, mass, aromatic, _ = places(
        found.features
    ).T
    assert element.tolist() == [4, 4, 5, 4, 6, 6, 8]  # C C N C O O Na
    assert charge.tolist() == [2, 2, 2, 2, 2, 1, 3]
    assert degree.tolist() == found.adjacency.sum(1).tolist()
    assert (chirality > 0).tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert hydrogens.tolist() == [3, 1, 2, 0, 0, 0, 0]
    assert [MASSES[m] for m in mass] == [12, 12, 14, 12, 16, 16, 23]
    assert not aromatic.any()
    ring = places(molecule_graph("c1ccccc1", 0, SPEC).features)
    assert ring[:, 6].all() and (ring[:, 7] == 2).all()


def test_hydrogens_are_nodes_only_where_they_must_be():
    assert molecule_graph("[H]C([H])([H])O", 0, SPEC).num_nodes == 2
    heavy = places(molecule_graph("[2H]C", 0, SPEC).features)
    assert [MASSES[m] for m in heavy[:, 5]] == [2, 12]


def test_one_hot_is_undone_by_places():
    sizes = [group.size for group in MOLECULE_GROUPS]
    codes = np.random.default_rng(0).integers(0, sizes, (20, 8))
    np.testing.assert_array_equal(places(one_hot(codes)), codes)


@pytest.mark.parametrize(
    "smiles, message",
    [
        ("C1CC", "'C1CC' is no molecule"),
        ("", "expected one molecule"),
        ("CC O", "expected one molecule"),
        (float("nan"), "smiles is nan"),
        ("\ud800", "expected one molecule"),
        ("C" * 2001, "2001 characters"),
        ("CC[U]", r"'CC\[U\]': atom 2 \(\[U\]\) has element 92"),
        ("C[*]", "element 0"),
        ("CC[300CH3]", "atom 2 .* has mass 300"),
        ("[C+4]", "charge 4"),
        ("CC(=O)O[AlH3](O)O", "no molecule"),
    ],
)
def test_bad_smiles_are_refused_in_one_line(smiles, message, capfd):
    with pytest.raises(InputError, match=message) as caught:
        molecule_graph(smiles, 0, SPEC)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert capfd.readouterr().err == ""


def test_bad_specs_and_labels_are_refused():
    words = GraphSpec((FeatureGroup("words", 140, False),), 2)
    with pytest.raises(InputError, match="expected MOLECULE_GROUPS"):
        molecule_graph("CC", 0, words)
    with pytest.raises(InputError, match="beyond the 2 classes"):
        molecule_graph("CC", 2, SPEC)


def test_without_rdkit_the_cure_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    for call in (
        lambda: molecule_graph("CC", 0, SPEC),
        lambda: load_molecules(tmp_path / "missing.csv"),
        load_known_molecules,
    ):
        with pytest.raises(InputError, match=r"pip install 'jaxinv\[molecules\]'"):
            call()


CSV = """smiles,a,b
CCO,0,1
CC[U],1,1
c1ccccc1,,0
nonsense,1,0
C1CC1,1.0,
,1,1
"""


def test_csv_keeps_what_it_can_read(tmp_path):
    (tmp_path / "m.csv").write_text(CSV, encoding="utf-8-sig")
    found = load_molecules(tmp_path / "m.csv", label="a")
    assert found.smiles == ("CCO", "C1CC1") and found.labels.tolist() == [0, 1]
    assert found.unreadable == ("CC[U]", "nonsense", "") and found.skipped == 1
    for smiles, one, label in zip(
        found.smiles, found.graphs, found.labels, strict=True
    ):
        alone = molecule_graph(smiles, int(label), SPEC)
        for part, same in zip(one, alone, strict=True):
            np.testing.assert_array_equal(part, same)
        graph(one.features, one.adjacency, one.labels, found.spec)
    rows = np.concatenate([one.features for one in found.graphs])
    np.testing.assert_allclose(found.spec.mean, rows.mean(0), atol=1e-7)
    np.testing.assert_allclose(found.spec.std, rows.std(0), atol=1e-7)
    one = load_molecules(tmp_path / "m.csv", label="a", max_molecules=1)
    assert one.smiles == ("CCO",)


def test_the_label_column_is_found(tmp_path):
    for name, titles in [("BBBP.csv", "num,smiles,p_np"), ("own.csv", "smiles,toxic")]:
        cells = "7,CC,1" if "num" in titles else "CC,1"
        (tmp_path / name).write_text(f"{titles}\n{cells}\n", encoding="utf-8")
        assert load_molecules(tmp_path / name).labels.tolist() == [1]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("", {}, "smiles column is 'smiles'; there are none"),
        ("smile,y\nCC,1\n", {}, "did you mean smile"),
        ("smiles,y\nCC,1\n", {"smiles": "SMILES"}, "smiles column is 'SMILES'"),
        ("smiles,y\nCC,1\n", {"label": "z"}, "label column is 'z'; expected one of y"),
        ("smiles,y\nCC,1\n", {"label": "smiles"}, "label column is 'smiles'"),
        ("smiles,y,z\nCC,1,0\n", {}, "label is None, but there are 2"),
        ("smiles\nCC\n", {}, "label is None, but there are 0"),
        ("smiles,y\nCC,nan\n", {}, "line 2 has label 'nan'"),
        ("smiles,y\nCC,0.7\n", {}, "expected 0, 1 or nothing"),
        ("smiles,y\n?,1\nQ,0\n", {}, "no readable molecule among 2"),
        ("smiles,y\nCC,\n", {}, "no readable molecule among 0"),
        ('smiles,y\n"CC,1\n', {}, "not a readable .csv"),
        ("smiles,y\nCC,1\n", {"max_molecules": 0}, "max_molecules is 0"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path, text, options, message):
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_molecules(tmp_path / "m.csv", **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00\x80smiles")
    with pytest.raises(InputError, match=r"not a readable \.csv"):
        load_molecules(tmp_path / "m.csv")
    with pytest.raises(OSError):
        load_molecules(tmp_path / "missing.csv")
    (tmp_path / "m.csv").write_text("smiles,y\nCC,1\nCC,1\n", encoding="utf-8")

    def refuse(count, what):
        if count > 3 * 4 * 140:
            raise InputError(f"{what}: more than the limit")

    monkeypatch.setattr(reader, "check_bytes", refuse)
    with pytest.raises(InputError, match="features of the molecules: more"):
        load_molecules(tmp_path / "m.csv")


def test_known_molecules_are_as_their_page_says():
    known = load_known_molecules()
    assert len(known.graphs) == len(KNOWN_MOLECULES) >= 36 and not known.unreadable
    sizes = [one.num_nodes for one in known.graphs]
    assert (min(sizes), max(sizes)) == (1, 23)
    label = dict(zip(KNOWN_MOLECULES, known.labels.tolist(), strict=True))
    assert label["benzene"] == label["menthol"] == 1
    assert label["ethanol"] == label["cyclobutane"] == label["furan"] == 0
    assert 10 < known.labels.sum() < len(sizes) - 10


def test_the_first_after_a_shuffle():
    known = load_known_molecules()
    few, more = first_shuffled(known, 5, seed=3), first_shuffled(known, 9, seed=3)
    assert few.smiles == more.smiles[:5] and few.spec is known.spec
    assert few.smiles != first_shuffled(known, 5, seed=4).smiles
    place = known.smiles.index(few.smiles[0])
    assert few.graphs[0] is known.graphs[place]
    assert few.labels[0] == known.labels[place]
    for num in (0, 39):
        with pytest.raises(InputError, match="expected 1 to 38"):
            first_shuffled(known, num)


def test_clintox_is_read_whole():
    found = load_molecules(data_file("clintox.csv"))
    assert len(found.graphs) == 1477 and found.labels.sum() == 112
    assert found.skipped == 0 and len(found.unreadable) == 1  # it has a wildcard
    assert found.spec.num_features == 140
