"""Audits of graphs made up for tests: every way to end, hostile names, no attack."""

from fakes import NASTY

from jaxinv.attacks.grain import Certificate, Recovered
from jaxinv.audits.graphs import AuditResult, CitationsConfig, MoleculesConfig
from jaxinv.audits.graphs.judge import controlled, judged
from jaxinv.audits.graphs.record import record
from jaxinv.audits.graphs.sources import Source, source_of
from jaxinv.data.graphs import load_known_molecules, molecule_graph
from jaxinv.graph import ANY, Graph

NOTHING = f"<b>no {NASTY}"
"""Why an attack gave up."""


def turned(graph):
    """The same graph, its nodes the other way round."""
    return Graph(
        graph.features[::-1], graph.adjacency[::-1, ::-1], graph.mask, graph.labels
    )


def recovered(certificate, graphs=(), *, complete=True):
    graphs = tuple(graphs)
    return Recovered(
        certificate=certificate,
        graph=graphs[0] if graphs else None,
        graphs=graphs,
        complete=complete,
        nodes_up_to=24 if graphs else 0,
        distance=1e-7 if graphs else float("inf"),
        stage="done" if graphs else "neighbourhoods",
        reason="" if graphs else NOTHING,
        seconds={"node types": 0.1},
        counts={"ranks": [3, 3, 3]},
    )


def molecules():
    """Acetone, ethanol, cyclopropane, urea, benzene; names and a SMILES hostile."""
    spec = load_known_molecules().spec
    smiles = ("CC(C)=O", "CCO", "C1CC1", "NC(N)=O", "c1ccccc1")
    graphs = tuple(molecule_graph(text, 0, spec) for text in smiles)
    names = (NASTY, '" onerror="alert(1)', "[red]x", "Größe 小", "molecule 4")
    shown = (NASTY, *smiles[1:])
    return Source(NASTY, f"5 of {NASTY}", 38, names, shown, graphs, spec, ANY)


def fake_molecules(config=None, *, wrong=True, controls=(False, False)):
    """Exact and certified, exact of two, among those that fit, given up, wrong.

    Args:
      config: of the audit.
      wrong: whether the last is there, which is called unique.
      controls: whether each control gives a graph.
    """
    source, certain = molecules(), Certificate
    acetone, ethanol, ring, urea, benzene = source.graphs
    carbon = benzene._replace(adjacency=0 * benzene.adjacency)
    results = [
        recovered(certain.UNIQUE, [turned(acetone)]),
        recovered(certain.AMBIGUOUS, [turned(ethanol), acetone], complete=False),
        recovered(certain.AMBIGUOUS, [benzene, *[ring] * 9]),
        recovered(certain.GAVE_UP),
        # Not a bond right, and no molecule.
        recovered(certain.UNIQUE, [carbon]),
    ][: 5 if wrong else 4]
    source = source._replace(graphs=source.graphs[: len(results)])
    entries = [judged(source, i, found, 1.5) for i, found in enumerate(results)]
    ends = [
        recovered(certain.AMBIGUOUS, [urea]) if solved else recovered(certain.GAVE_UP)
        for solved in controls
    ]
    checks = [controlled(source, i, found, 0.5) for i, found in enumerate(ends)]
    config = config or MoleculesConfig(controls=len(controls))
    return AuditResult(record(config, source, 1.0, entries, checks))


def fake_citations(config=None):
    """Two generated neighbourhoods: one exact, one with a node lost, an edge wrong."""
    source = source_of(config or CitationsConfig(num=2))
    first, second = source.graphs
    rows, mask = second.features[1:], second.mask[1:]
    fewer = Graph(rows, second.adjacency[1:, 1:].copy(), mask, second.labels)
    fewer.adjacency[[0, -1], [-1, 0]] = 1 - fewer.adjacency[0, -1]
    results = [
        recovered(Certificate.UNIQUE, [turned(first)]),
        recovered(Certificate.AMBIGUOUS, [fewer]),
    ]
    entries = [judged(source, i, found, 1.5) for i, found in enumerate(results)]
    return AuditResult(record(CitationsConfig(num=2), source, 1.0, entries, []))
