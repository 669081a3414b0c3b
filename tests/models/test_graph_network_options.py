"""What graph networks and their specs refuse, and how they say it."""

import dataclasses

import jax
import pytest

from jaxinv.errors import InputError
from jaxinv.graph import FeatureGroup, GraphSpec
from jaxinv.models.graph_networks import build_graph_model
from jaxinv.models.graph_networks.base import check_params

SPEC = GraphSpec((FeatureGroup("kind", 3), FeatureGroup("degree", 4)), 2, "graph")

BAD_OPTIONS = [
    ("gcn", {"readout": 5}, "readout is 5; expected a list of numbers of units"),
    ("gcn", {"readout": "64"}, "readout is '64'; expected a list"),
    ("gcn", {"readout": None}, "readout is None; expected a list"),
    ("gcn", {"readout": [8, 0]}, r"readout\[1\] is 0; expected a positive integer"),
    ("gat", {"readout": [1.5]}, r"readout\[0\] is 1.5; expected a positive integer"),
    ("gat", {"readout": {8: 8}}, r"readout is \{8: 8\}; expected a list"),
    ("gcn", {"depth": 0}, "depth is 0; expected a positive integer"),
    ("gcn", {"depth": 2.0}, "option depth of gcn is 2.0; expected a whole number"),
    ("gat", {"width": "wide"}, "option width of gat is 'wide'; expected a whole"),
    ("gat", {"heads": 0}, "heads is 0; expected a positive integer"),
    ("gat", {"heads": True}, "option heads of gat is True; expected a whole number"),
    ("gcn", {"activation": "tanh"}, "activation is 'tanh'; expected one of gelu, relu"),
    ("gcn", {"activation": ["relu"]}, r"activation is \['relu'\]; expected one of"),
    ("gat", {"activation": "relu"}, "option 'activation' is unknown to gat"),
    ("gcn", {"concat": 1}, "option concat of gcn is 1; expected true or false"),
    ("gcn", {"task": "node"}, "option 'task' is unknown to gcn"),
    ("gcn", {"spec": 3}, "option 'spec' is unknown to gcn"),
    ("gnc", {}, "model is 'gnc'; did you mean gcn"),
    (["gcn"], {}, r"model is \['gcn'\]; did you mean gcn"),
]


@pytest.mark.parametrize(("name", "options", "says"), BAD_OPTIONS)
def test_an_option_that_no_network_has_is_named(name, options, says):
    with pytest.raises(InputError, match=says) as refused:
        build_graph_model(name, SPEC, **options)
    assert "\n" not in str(refused.value)


def test_a_network_wants_a_spec():
    with pytest.raises(InputError, match="spec is NoneType; expected a GraphSpec"):
        build_graph_model("gcn", None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "edge"}, "task is 'edge'; expected one of"),
        ({"task": ["graph"]}, r"task is \['graph'\]; expected one of"),
        ({"num_classes": "2"}, "num_classes is '2'; expected an integer >= 1"),
        ({"num_classes": 2.5}, "num_classes is 2.5; expected an integer >= 1"),
        ({"num_classes": 0}, "num_classes is 0; expected an integer >= 1"),
        ({"groups": 5}, "groups is 5; expected a tuple of FeatureGroups"),
        ({"groups": ("kind",)}, r"groups is \('kind',\); expected a tuple"),
        ({"groups": (FeatureGroup("kind", 0),)}, "expected a tuple of FeatureGroups"),
        ({"mean": 5}, "mean or std is not of numbers"),
        ({"std": ("a",) * 7}, "mean or std is not of numbers"),
    ],
)
def test_a_spec_that_no_graph_has_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        dataclasses.replace(SPEC, **change)


def test_weights_of_another_network_are_told():
    one = build_graph_model("gcn", SPEC, width=4, readout=(4,))
    params = one.init(jax.random.key(0))
    check_params(one, params)
    wider = build_graph_model("gcn", SPEC, width=5, readout=(4,))
    with pytest.raises(InputError, match=r"has shape \(7, 4\); expected \(7, 5\) of a"):
        check_params(wider, params)
    deeper = build_graph_model("gcn", SPEC, depth=3, width=4, readout=(4,))
    with pytest.raises(InputError, match=r"has shape none; expected \(4, 4\)"):
        check_params(deeper, params)
