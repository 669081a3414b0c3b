"""Throws bytes at the readers of a sweep's TOML and of other people's report.json.

    pip install -e '.[fuzz,test]'
    python tests/fuzz/fuzz_records.py CORPUS -max_total_time=300 -rss_limit_mb=1536 \
        -timeout=10 -max_len=65536 -print_final_stats=1

The first byte of a case says what the rest is: a spec, a report, or changes to a valid
one of either, which come further in than bytes do. A report that is read is compared
with a good one of its case and drawn, as `jaxinv report` does. A reader may refuse by
InputError in one line; anything else and more than ten seconds are findings.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["jaxinv.sweeps", "jaxinv.reports"]):
    from fake_runs import write_run

    from jaxinv.errors import InputError
    from jaxinv.reports.side_by_side import read_reports
    from jaxinv.reports.side_by_side.cases import CASES
    from jaxinv.reports.side_by_side.compare import compare
    from jaxinv.reports.side_by_side.page import render
    from jaxinv.sweeps import read_spec

SPEC = """
defenses = ["none", "gaussian_noise:std=0.01"]
seeds = [0, 1]
checkpoint_s = 30.0
pictures = true
[[cases]]
label = "digits"
data = "digits"
target = "mlp"
num_examples = 3
set = {"target.widths" = [[8]]}
[[attacks]]
name = "inverting_gradients"
restarts = [3, 4]
iterations = 40
withhold = ["labels"]
set = {"attack.tv" = [0.01, 0.1]}
[[attacks]]
name = "linear_layer"
"""
ODD = [None, True, 0, -1, 2**63, 1e308, "", "x" * 3000, "\u202e<\n", [], [[]], {}]


def one_case(content: bytes) -> None:
    """Reads one made-up file."""
    if not content:
        return
    kind, rest = content[0] % 4, content[1:]
    try:
        if kind % 2 == 0:
            text = _toml(_changed(rest, tomllib.loads(SPEC))) if kind else None
            SPEC_FILE.write_bytes(rest if text is None else text.encode())
            read_spec(SPEC_FILE)
        else:
            _beside(rest, changes=kind == 3)
    except InputError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 2000, text[:300]


def _beside(content: bytes, changes: bool) -> None:
    """A report of these bytes, or changed by them, beside a good one."""
    name = list(CASES)[content[0] % len(CASES)] if content else "images"
    if changes:
        good = json.loads((RUNS / name / "report.json").read_text("utf-8"))
        content = json.dumps(_changed(content[1:], good)).encode()
    (RUNS / "bad" / "report.json").write_bytes(content)
    runs = read_reports([RUNS / name, RUNS / "bad"])
    page = render(runs, compare(runs))
    assert page.count("<script") == 1


def _changed(content: bytes, value: Any) -> Any:
    """A few places of a tree replaced, removed or doubled, as the bytes say."""
    data = atheris.FuzzedDataProvider(content)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        place, key = None, None
        here = value
        while isinstance(here, (dict, list)) and here:
            if place is not None and data.ConsumeIntInRange(0, 4) == 0:
                break
            keys = list(here) if isinstance(here, dict) else range(len(here))
            place, key = here, keys[data.ConsumeIntInRange(0, len(keys) - 1)]
            here = here[key]
        if place is None:
            continue
        how = data.ConsumeIntInRange(0, 3)
        if how == 0:
            del place[key]
        elif how == 1 and isinstance(place, list):
            place.append(here)
        elif how == 1:
            place[data.ConsumeUnicodeNoSurrogates(8)] = here
        elif how == 2:
            place[key] = data.ConsumeUnicodeNoSurrogates(40)
        else:
            place[key] = ODD[data.ConsumeIntInRange(0, len(ODD) - 1)]
    return value


def _toml(value: dict[str, Any]) -> str:
    """A table as TOML, what it holds inside its line."""
    return "\n".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    # TOML has no null; infinity is the number that JSON has not.
    return "inf" if value is None else json.dumps(value)


def _key(name: str) -> str:
    return json.dumps(name)


def main() -> None:
    """Fills the corpus and hands over to the fuzzer."""
    for case in CASES:
        write_run(case, RUNS / case)
    (RUNS / "bad").mkdir()
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if corpus is not None and not sys.argv[1].startswith("-"):
        corpus.mkdir(parents=True, exist_ok=True)
        if not any(corpus.iterdir()):
            (corpus / "spec").write_bytes(b"\0" + SPEC.encode())
            for number, case in enumerate(CASES):
                report = (RUNS / case / "report.json").read_bytes()
                (corpus / f"report-{case}").write_bytes(b"\1" + report)
                (corpus / f"changes-{case}").write_bytes(bytes([3, number, 1, 2, 3]))
            (corpus / "changes-spec").write_bytes(b"\2\1\2\3")
    atheris.Setup(sys.argv, one_case)
    atheris.Fuzz()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RUNS, SPEC_FILE = Path(folder), Path(folder, "spec.toml")
        main()
