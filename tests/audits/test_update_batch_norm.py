"""Batch norm in training mode, end to end: PyTorch's files in, a report out."""

import json
from pathlib import Path

import pytest

from jaxinv.audits.update import UpdateConfig, run_audit
from jaxinv.cli import main, running

pytest.importorskip("torch", reason="torch is not installed")
from exchange.torch_clients import own_files

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(own_files(tmp_path, batch_norm=True))
    monkeypatch.setattr(running, "use_cache", lambda: None)


def test_the_picture_comes_back_and_the_page_says_what_was_known(tmp_path):
    words = "--model my_model.py:Net --torch-model my_net.py:Net --client client.toml"
    words += " --params before.safetensors --update after.safetensors --attack dlg"
    words += " --iterations 300 --restarts 2 --truth truth.npz"
    out = tmp_path / "out"
    assert main(["audit", "update", *words.split(), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["summary"]["psnr_median"] > 20
    assert "the loss and the gradient agree" in report["compared"]
    assert "batch_stats" in report["knowledge"]
    checks = {f["check"]: f for f in report["findings"]}
    assert checks["statistics"]["verdict"] == "ok"
    assert "took a share of 0.1" in checks["statistics"]["line"]
    page = (out / "report.html").read_text("utf-8")
    assert "mean and variance of the batch in every batch-norm layer" in page


def test_an_attack_does_better_with_the_statistics():
    text = Path("client.toml").read_text()
    Path("without.toml").write_text(text + "batch_stats = false\n")
    found = {}
    for client in ("client.toml", "without.toml"):
        config = UpdateConfig(
            model="my_model.py:Net",
            params="before.safetensors",
            update="after.safetensors",
            client=client,
            attack="modern",
            attack_options={"batch_norm": 1.0},
            iterations=200,
            restarts=2,
            truth="truth.npz",
        )
        found[client] = run_audit(config).report["summary"]["psnr_median"]
    # 13.8 and 7.5 dB when this was written.
    assert found["client.toml"] > found["without.toml"] + 3
