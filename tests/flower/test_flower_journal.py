"""What both sides write down while a federation runs, and the report made of it."""

import json
import os
import random

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxinv.errors import InputError
from jaxinv.flower import AuditedStrategy, Entry, arrays_of, audit_mod, write_report
from jaxinv.flower.journal import note
from jaxinv.flower.reading import read_journals


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """A folder that both sides of a federation wrote to, and the server's entries."""
    folder = tmp_path_factory.mktemp("ran")
    random.seed(0)
    audit = world.audit()
    mods = [audit_mod(audit, world.truth, out=folder)]
    strategy = AuditedStrategy(FedAvg(fraction_evaluate=0.0), audit, out=folder)
    strategy.start(world.grid(mods), arrays_of(world.params), num_rounds=2)
    return folder, strategy.entries


def test_each_side_has_a_file_and_each_entry_a_line(world, ran):
    folder, entries = ran
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["run-1-server.jsonl", *(f"run-1-node-{node}.jsonl" for node in world.nodes)]
    )
    run, (server, *clients) = read_journals(folder)
    assert run == 1 and server.who == "server"
    assert server.facts["attack"] == "linear_layer"
    assert server.facts["knowledge"] == ["local_training"]
    assert [row["score"] for row in server.rows] == [e.score for e in entries]
    assert [row["psnr"] for row in server.rows] == 4 * [None]
    for client in clients:
        assert [row["round"] for row in client.rows] == [1, 2]
        assert min(client.rows[0]["psnr"]) > 80
        assert client.rows[0]["chance"] == 0.5


def test_the_report_puts_both_sides_together(world, ran):
    folder, entries = ran
    page = write_report(folder, command="again & again")
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["case"] == "flower" and report["command"] == "again & again"
    assert report["clients"] == [str(node) for node in sorted(world.nodes)]
    told = {(r["round"], r["node"]): r for r in report["replies"]}
    assert set(told) == {(e.round, str(e.node)) for e in entries}
    for entry in entries:
        reply = told[entry.round, str(entry.node)]
        assert reply["server"]["score"] == entry.score
        assert reply["client"]["status"] == "OK" and len(reply["psnr"]) == 2
    assert [r["round"] for r in report["rounds"]] == [1, 2]
    assert report["summary"]["examples"] == 8 and report["rounds"][0]["exact"] == 4
    assert report["rounds"][0]["psnr_best"] == max(
        max(r["psnr"]) for r in report["replies"] if r["round"] == 1
    )
    assert report["verdict"]["level"] == "exact"
    assert "again &amp; again" in page.read_text("utf-8")


def test_the_server_s_file_alone_is_a_report_without_a_verdict(ran, tmp_path):
    name = "run-1-server.jsonl"
    (tmp_path / name).write_bytes((ran[0] / name).read_bytes())
    write_report(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["verdict"]["level"] == "none"
    assert report["summary"]["score_best"] == min(e.score for e in ran[1])


def test_a_run_that_breaks_off_loses_what_was_half_written_alone(world, tmp_path):
    for number in (1, 2):
        note(tmp_path, 3, "server", Entry(number, 5, "OK", 0.5), world.audit())
    path = tmp_path / "run-3-server.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    _, (journal,) = read_journals(tmp_path)
    assert [row["round"] for row in journal.rows] == [1]


def test_the_run_that_was_written_last_is_taken(world, tmp_path):
    for run in (8, 9):
        note(tmp_path, run, "node-1", Entry(1, 1, "OK", run), world.audit())
    os.utime(tmp_path / "run-9-node-1.jsonl", (1, 1))
    assert read_journals(tmp_path)[0] == 8
    assert read_journals(tmp_path, 9)[1][0].rows[0]["score"] == 9
    with pytest.raises(InputError, match="it holds no run-7-"):
        read_journals(tmp_path, 7)


def test_a_client_that_audits_otherwise_is_told_apart(world, tmp_path):
    note(tmp_path, 1, "server", Entry(1, 4, "OK", 0.5), world.audit())
    entry = Entry(1, 4, "FAILED", reason="no disk")
    note(tmp_path, 1, "node-4", entry, world.audit(seed=1), ["labels"])
    write_report(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["settings"]["seed"] == 0
    assert report["settings"]["seed, on clients"] == 1
    assert report["knowledge"] == ["labels", "local_training"]
    assert report["summary"]["failed"] == 1


def hostile(ran, folder, line, content):
    """The server's file with a line replaced, read."""
    lines = (ran[0] / "run-1-server.jsonl").read_bytes().splitlines()
    lines[line] = content
    (folder / "run-1-server.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return read_journals(folder)


def test_nobody_s_markup_reaches_the_page(ran, tmp_path):
    row = json.loads((ran[0] / "run-1-server.jsonl").read_bytes().splitlines()[1])
    row["node"] = row["reason"] = row["status"] = "<script>alert(1)</script>"
    hostile(ran, tmp_path, 1, json.dumps(row).encode())
    page = write_report(tmp_path).read_text("utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"round": "1"}, "line 2: round is '1'; expected a number"),
        ({"round": -1}, "line 2: round is -1"),
        ({"node": 7}, "line 2: node is 7; expected a text"),
        ({"score": "best"}, "line 2: score is 'best'; expected a number"),
        ({"refused": None}, "line 2: refused is null"),
        ({"psnr": [1.0], "ssim": []}, "line 2: psnr and ssim differ in length"),
        ({"psnr": [[1]], "ssim": [None]}, "line 2: psnr is .*; expected numbers"),
        ({"psnr": 3, "ssim": 3}, "line 2: psnr is 3; expected a list"),
    ],
)
def test_a_line_of_the_wrong_kind_is_named(ran, tmp_path, change, words):
    row = json.loads((ran[0] / "run-1-server.jsonl").read_bytes().splitlines()[1])
    with pytest.raises(InputError, match=words):
        hostile(ran, tmp_path, 1, json.dumps(row | change).encode())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2), st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(ran, tmp_path, line, content):
    try:
        hostile(ran, tmp_path, line, content)
    except InputError as error:
        assert "run-1-server.jsonl: " in str(error) and "\n" not in str(error)


def test_a_folder_without_a_journal(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match=r"holds no run-\*.jsonl"):
            write_report(folder)


def test_a_link_that_leads_out_is_no_journal(ran, tmp_path):
    (tmp_path / "run-1-server.jsonl").symlink_to(ran[0] / "run-1-server.jsonl")
    with pytest.raises(InputError, match="holds no"):
        read_journals(tmp_path)


def test_what_is_not_finite_is_null(world, tmp_path):
    entry = Entry(1, 1, "DIVERGED", np.inf, psnr=[np.nan], ssim=[np.nan])
    note(tmp_path, 1, "node-1", entry, world.audit())
    _, (journal,) = read_journals(tmp_path)
    assert journal.rows[0]["score"] is None and journal.rows[0]["psnr"] == [None]
