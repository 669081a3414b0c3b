"""The example on loopback: real processes, one round."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "examples/flower_audit/run.py"


def ran(*arguments):
    return subprocess.run(
        [sys.executable, str(RUN), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"COLUMNS": "100"},
    )


@pytest.mark.skipif(not RUN.exists(), reason="no examples beside the tests")
def test_two_clients_on_loopback(tmp_path):
    done = ran("--rounds", "1", "--out", str(tmp_path / "out"))
    logs = "\n".join(p.read_text("utf-8")[-3000:] for p in tmp_path.rglob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    assert "What each round leaked" in done.stdout and done.stdout.count("100%") == 2
    report = json.loads((tmp_path / "out/report.json").read_text("utf-8"))
    assert report["verdict"]["level"] == "exact", logs
    assert len(report["replies"]) == 2
    for reply in report["replies"]:
        assert reply["server"]["status"] == reply["client"]["status"] == "OK"
        assert min(reply["psnr"]) > 60
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "examples/flower_audit/run.py --rounds 1" in page


@pytest.mark.skipif(not RUN.exists(), reason="no examples beside the tests")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rounds", "0"), "--rounds is 0"),
        (("--epsilon", "nan"), "--epsilon nan"),
        (("--out", ""), "out is ''"),
    ],
)
def test_wrong_arguments_start_nothing(arguments, words):
    done = ran(*arguments)
    assert done.returncode == 2 and words in done.stderr
    assert "Traceback" not in done.stderr
