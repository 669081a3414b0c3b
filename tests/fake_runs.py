"""Folders of runs as audits leave them, one for each case, with hostile names."""

from fake_flower import fake_federation
from fake_graphs import fake_citations, fake_molecules
from fake_sweeps import fake_other, fake_swept
from fakes import NASTY, example, fake_rated, fake_result, rater

from jaxinv.reports import flower, graphs, images, recommender, sweep
from jaxinv.reports.folder import fresh_folder, write_judged
from jaxinv.reports.verdict import Verdict


class Record:
    """A result, of what its record holds no more than is compared."""

    def __init__(self, report):
        facts = ("command", "settings", "versions", "dataset", "device", "run_s")
        plain = {k: v for k, v in fake_result([]).report.items() if k in facts}
        given = {"attack": "dlg", "attack_title": "DLG", "knowledge": []}
        self.report = {**plain, **given, "compile_s": None, **report}


def comparison(accuracy):
    """Of defences."""
    rows = [
        {"defense": name, "accuracy": a, "strongest": {"psnr": psnr}}
        for name, a, psnr in (
            ("none", 0.9, 50.0),
            (NASTY, accuracy, None),
            ("sign", 0.8, 9.0),
        )
    ]
    return Record(
        {
            "case": "defences",
            "target": "mlp",
            "defense": NASTY,
            "num_examples": 16,
            "num_test": 400,
            "interrupted": True,
            "rows": rows,
        }
    )


def update(unexplained):
    """An audit of what a real client sent."""
    evidence = {"unexplained": unexplained, "agreement": None}
    return Record(
        {
            "case": "update",
            "model": NASTY,
            "defense": "none",
            "num_examples": 2,
            "restart_iterations_per_s": 10.5,
            "interrupted": False,
            "evidence": evidence,
            "attackers": [
                {"name": name, "evidence": evidence} for name in ("blind", "adaptive")
            ],
        }
    )


def write_run(case, out, seed=0):
    """Writes a made-up run of a case; runs of several seeds differ in something."""
    if case == "images":
        examples = [example(i, psnr=20.0 + seed + i) for i in range(3)]
        result = fake_result(examples, side=8, seed=seed)
        result.report["settings"]["seed"] = seed
        return images.write_report(result, out).parent
    if case == "recommender":
        users = [rater(i, mae=0.1 * seed) for i in range(6)]
        return recommender.write_report(fake_rated(users), out).parent
    if case == "molecules":
        result = fake_molecules(wrong=bool(seed))
        return graphs.write_report(result, out).parent
    if case == "citations":
        return graphs.write_report(fake_citations(), out).parent
    if case == "sweep of images":
        return sweep.write_report(fake_swept(seed=seed), out).parent
    if case == "flower":
        return flower.write_report(fake_federation(seed=seed), out).parent
    if case.startswith("sweep of "):
        other = fake_other(case.removeprefix("sweep of "), seed)
        return sweep.write_report(other, out).parent
    made = {"update": update, "defences": comparison}[case]
    result = made(0.5 + 0.1 * seed)
    told = Verdict("traces", f"Made up. {NASTY}", (NASTY,))
    folder = fresh_folder(out)
    write_judged(result, folder, lambda report: told, lambda result, verdict: "<p>")
    return folder
