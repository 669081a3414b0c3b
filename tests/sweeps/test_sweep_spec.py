import pytest
from sweeps.small_sweeps import CASE, SEARCH, small

from jaxinv.errors import InputError
from jaxinv.sweeps.folder import difference
from jaxinv.sweeps.spec import MOST_POINTS, Sweep, read_spec


def test_every_combination_is_a_point():
    points = small().points
    # Two values of tv and a closed form, two defences, two seeds.
    assert len(points) == 3 * 2 * 2
    assert {p.config.attack_options.get("tv") for p in points} == {0.01, 0.1, None}
    assert {p.config.seed for p in points} == {0, 1}
    assert {p.config.defense for p in points} == {(), ("gaussian_noise:std=0.01",)}


def test_a_list_in_a_list_is_a_value():
    found = small(cases=({**CASE, "set": {"target.widths": [[8], [8, 4]]}},)).points
    widths = {tuple(p.config.target_options["widths"]) for p in found}
    assert widths == {(8,), (8, 4)}


def test_fields_of_cases_are_grids_too_and_knowledge_is_none():
    case = {**CASE, "batch_size": [1, 3], "withhold": ["labels"]}
    points = small(cases=(case,), attacks=(SEARCH,)).points
    assert {p.config.batch_size for p in points} == {1, 3}
    assert {p.config.withhold for p in points} == {("labels",)}


def test_defences_joined_by_plus_act_in_order():
    both = "clipping:norm=1e+3+gaussian_noise:std=0.01"
    points = small(defenses=(both,)).points
    assert points[0].config.defense == ("clipping:norm=1e+3", "gaussian_noise:std=0.01")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cases": ()}, "cases is ()"),
        ({"seeds": (0, 0)}, "named twice"),
        ({"seeds": (-1,)}, "expected 0 to 2^31 - 1"),
        ({"seeds": (2**70,)}, "expected 0 to 2^31 - 1"),
        ({"defenses": (["sign"],)}, "expected names"),
        ({"defenses": ("none", "")}, "expected names"),
        ({"checkpoint_s": float("nan")}, "checkpoint_s is nan"),
        ({"cases": ({**CASE, "normalise": "no"},)}, "expected true or false"),
        ({"cases": ({**CASE, "withhold": "labels"},)}, "expected a list"),
        ({"cases": ({**CASE, "withhold": ["labels", ["x"]]},)}, "lists of names"),
        ({"cases": ({**CASE, "set": {"target.spec": 1}},)}, "follows from the data"),
        ({"cases": (CASE, CASE)}, "the same point twice"),
        ({"attacks": ({**SEARCH, "iterations": "x"},)}, "iterations is 'x'"),
        ({"attacks": ({**SEARCH, "set": {"attack.tv": float("nan")}},)}, "tv is nan"),
        ({"attacks": ({**SEARCH, "set": {"attack.tv": [0.1, 0.1]}},)}, "twice"),
        ({"seeds": ("a",)}, "expected integers"),
        ({"defenses": ("sing",)}, "did you mean sign?"),
        ({"checkpoint_s": -1}, "checkpoint_s is -1"),
        ({"pictures": "yes"}, "pictures is 'yes'"),
        ({"cases": ({**CASE, "numexamples": 3},)}, "did you mean num_examples?"),
        ({"cases": ({**CASE, "num_examples": []},)}, "empty list"),
        ({"cases": ({**CASE, "set": {"attack.tv": 1}},)}, "target.NAME"),
        ({"cases": ({**CASE, "set": 3},)}, "expected a table"),
        ({"attacks": ({"restarts": 3},)}, "expected an attack"),
        ({"attacks": ({"name": "dlgg"},)}, "did you mean dlg or idlg?"),
        ({"attacks": ({"name": "rgap", "iterations": 3},)}, "closed form"),
        ({"cases": ("digits",)}, "expected a table"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=r"^[^\n]*$") as raised:
        small(**changes)
    assert message in str(raised.value)


def test_a_grid_beyond_all_reason_is_refused_at_once():
    attack = {**SEARCH, "set": {"attack.tv": [i / 7 for i in range(1000)]}}
    with pytest.raises(InputError, match=f"expected {MOST_POINTS:,} at most"):
        small(attacks=(attack,), seeds=tuple(range(1000)))


def test_a_file_says_the_same(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        """
        seeds = [0, 1]
        defenses = ["none", "gaussian_noise:std=0.01"]
        checkpoint_s = 5
        [[cases]]
        name = "digits"
        data = "digits"
        target = "mlp"
        num_examples = 3
        set = { "target.widths" = [[8]] }
        [[attacks]]
        name = "inverting_gradients"
        restarts = 3
        iterations = 40
        set = { "attack.tv" = [0.01, 0.1] }
        [[attacks]]
        name = "linear_layer"
        """
    )
    assert read_spec(path).settings() == small().settings()


@pytest.mark.parametrize(
    "text, message",
    [
        ("a = ", "is no TOML"),
        ("case = 1", "did you mean cases?"),
        ("[[cases]]", r"has no \[\[attacks\]\]"),
        ("cases = 3\nattacks = 3", "expected a list"),
    ],
)
def test_a_file_that_says_nothing_useful(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_spec(path)


def test_differences_name_their_place():
    old, new = small().settings(), small(seeds=(0, 1, 2)).settings()
    assert difference(old, old) == []
    assert difference(old, new) == ["seeds was [0, 1] and is [0, 1, 2]"]
    attacks = ({**SEARCH, "restarts": 5}, {"name": "linear_layer"})
    lines = difference(old, small(attacks=attacks).settings())
    assert "attacks[0].restarts was 3 and is 5" in lines


def test_a_sweep_can_be_made_in_python():
    assert Sweep(cases=[CASE], attacks=[SEARCH]).points[0].label == "digits"


@pytest.mark.parametrize("field", ["seeds", "checkpoint_s", "label", "x" * 9000])
def test_a_file_s_own_words_neither_flood_nor_steer_a_terminal(tmp_path, field):
    path = tmp_path / "sweep.toml"
    word = f'"\\u001b[2J\\n{"x" * 9000}"'
    case = '[[cases]]\ndata = "digits"\ntarget = "mlp"\nlabel = LABEL\n'
    attack = '[[attacks]]\nname = "linear_layer"\n'
    # A label comes up where two points are the same.
    text = case * 2 if field == "label" else f"{field} = {word}\n{case}"
    path.write_text((text + attack).replace("LABEL", word), "utf-8")
    with pytest.raises(InputError) as caught:
        read_spec(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 1000
