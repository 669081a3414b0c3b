"""The report of images: what is written loads again, says the truth and is harmless."""

import base64
import io
import json
import math
import re
import sys

import numpy as np
import pytest
from browser import Page
from fakes import NAMES, NASTY, example, fake_report, fake_result
from PIL import Image

from jaxinv.audits.images import AuditResult
from jaxinv.reports.folder import jsonable
from jaxinv.reports.images import judge, plot, write_report
from jaxinv.reports.images.page import SHOWN
from jaxinv.reports.images.verdict import LUCK, rate


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    result = fake_result()
    page = write_report(result, tmp_path_factory.mktemp("written") / "new" / "out")
    return result, page


def test_json_round_trip(written):
    result, page = written

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (page.parent / "report.json").read_text("utf-8")
    loaded = json.loads(text, parse_constant=refuse)
    verdict = loaded.pop("verdict")
    assert loaded == jsonable(result.report)
    assert verdict["headline"] == judge(loaded).headline
    assert loaded["examples"][3]["ssim"] is None
    assert loaded["examples"][3]["mse"] is None
    assert loaded["dataset"]["name"].endswith("größe.npz")


def test_names_are_escaped(written):
    _, page = written
    text = page.read_text("utf-8")
    seen = Page(text)
    assert seen.runs_nothing_of_others()
    assert NASTY not in text
    # Shown as written: once for the class, the data, the command and the setting.
    assert "".join(seen.words).count(NASTY) >= 4
    for name in NAMES:
        assert any(name in part for part in seen.words)


def test_page_loads_nothing(written):
    _, page = written
    text = page.read_text("utf-8")
    seen = Page(text)
    assert len(seen.loads) >= 16
    assert all(load.startswith("data:image/") for load in seen.loads)
    assert not re.search(r"url\s*\(|@import", text)
    assert "default-src 'none'" in text
    assert not {"link", "iframe", "object", "embed", "form"} & set(seen.tags)


def test_page_is_accessible(written):
    seen = Page(written[1].read_text("utf-8"))
    assert len(seen.alts) == seen.tags.count("img")
    assert all(seen.alts)
    assert seen.tags.count("h1") == 1
    text = written[1].read_text("utf-8")
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert all('scope="' in cell for cell in re.findall(r"<th\b[^>]*>", text))


def test_colours_have_contrast(written):
    # WCAG 2.2, 1.4.3: at least 4.5 between text and its background.
    text = written[1].read_text("utf-8")
    schemes = re.findall(r":root \{([^}]*)\}", text)
    assert len(schemes) == 2

    def luminance(colour):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for scheme in schemes:
        tone = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name in ("ink", "soft", "leak", "part", "none"):
            for ground in ("paper", "raised"):
                pair = sorted((luminance(tone[name]), luminance(tone[ground])))
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, ground)


def test_page_says_what_matters(written):
    result, page = written
    words = " ".join("".join(Page(page.read_text("utf-8")).words).split())
    for said in (
        judge(result.report).headline,
        "An attacker cannot make this choice",
        "Finding little is not proof of safety",
        "entitled to test",
        "Deep Leakage from Gradients",
        "1906.08935",
        "115.1 restart-iterations/s",
        "target.width",
        "the labels",
        result.report["command"],
        "DIVERGED",
        "n/a",
    ):
        assert said in words
    assert "nan" not in words.lower().replace("finance", "")
    assert "None" not in words


def test_pictures_in_page_are_the_arrays(written):
    result, page = written
    loads = [u for u in Page(page.read_text("utf-8")).loads if "image/png" in u]
    row = result.pictures[0]
    for uri, pixels in zip(loads[:2], (row.true, row.found), strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert np.array_equal(np.asarray(image), pixels)
    oracle = loads[2 * len(result.pictures) + 1]
    image = Image.open(io.BytesIO(base64.b64decode(oracle.partition(",")[2])))
    assert np.array_equal(np.asarray(image), row.oracle)


def test_picture_files(written):
    result, page = written
    folder = page.parent / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"example-{index:05d}.png" for index in range(4)),
        "reconstructions.png",
    ]
    sheet = np.asarray(Image.open(folder / "example-00002.png"))
    # Every second true pixel of the magnified picture is there, and not blurred.
    row = result.pictures[2]
    for pixels in (row.true, row.found, row.oracle):
        large = pixels.repeat(6, 0).repeat(6, 1)
        assert any(
            np.array_equal(sheet[20:212, left : left + 192], large)
            for left in range(sheet.shape[1] - 191)
        )


@pytest.mark.parametrize(("side", "channels", "count"), [(28, 1, 1), (224, 3, 2)])
def test_grey_and_large(tmp_path, side, channels, count):
    result = fake_result(
        [example(i) for i in range(count)], side=side, channels=channels
    )
    page = write_report(result, tmp_path)
    assert page.stat().st_size > 1000


def test_many_examples(tmp_path):
    examples = [example(i) for i in range(plot.MAX_ON_SHEET + 6)]
    page = write_report(fake_result(examples, side=4), tmp_path)
    text = page.read_text("utf-8")
    assert f"first {plot.MAX_ON_SHEET} of {len(examples)}" in " ".join(text.split())
    assert len(list((tmp_path / "pictures").glob("example-*.png"))) == len(examples)
    # The table has them all.
    assert len(re.findall(r'<tr><th scope="row">\d+</th>', text)) == len(examples)


def test_rewriting_leaves_nothing_stale(tmp_path):
    write_report(fake_result(), tmp_path)
    (tmp_path / "pictures" / "mine.png").write_bytes(b"keep")
    write_report(fake_result([example(9)]), tmp_path)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"example-00009.png", "reconstructions.png", "mine.png"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "pictures",
        "report.html",
        "report.json",
    }


def test_nothing_finished(tmp_path):
    result = fake_result([], interrupted=True)
    summary = dict.fromkeys(result.report["summary"])
    page = write_report(
        AuditResult({**result.report, "summary": summary}, [], []), tmp_path
    )
    text = page.read_text("utf-8")
    assert "there is nothing to judge" in text
    assert "None" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def test_every_number_null(tmp_path):
    gone = example(0, identified=False) | dict.fromkeys(
        ("psnr", "ssim", "mse", "score", "oracle_psnr", "rank", "label_found")
    )
    gone["class_found"] = None
    result = fake_result([gone])
    report = result.report
    report["summary"] = dict.fromkeys(report["summary"], math.nan)
    report |= {"compile_s": None, "run_s": math.nan, "iterations": None}
    report["restart_iterations_per_s"] = math.inf
    text = write_report(result, tmp_path).read_text("utf-8")
    assert "recovered nothing usable" in text


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = write_report(fake_result(), tmp_path).read_text("utf-8")
    assert "pip install 'jaxinv[plot]'" in text
    assert "image/svg+xml" not in text


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        (None, None, "nothing"),
        (math.nan, 0.9, "nothing"),
        (14.9, 0.9, "nothing"),
        # What flat grey gets.
        (15.5, 0.2, "nothing"),
        (15.0, 0.3, "traces"),
        (24.9, 0.9, "traces"),
        (25.0, 0.9, "recognisable"),
        # A flat guess at a flat image.
        (36.0, 0.2, "nothing"),
        (36.0, 0.4, "traces"),
        # Too small for SSIM.
        (34.9, None, "recognisable"),
        (35.0, 0.9, "exact"),
    ],
)
def test_rate(psnr, ssim, expected):
    assert rate({"psnr": psnr, "ssim": ssim}) == expected


@pytest.mark.parametrize(
    ("examples", "level", "says"),
    [
        ([example(psnr=40)] * 4, "exact", "All 4 images were recovered practically"),
        ([example(psnr=40)], "exact", "The image was recovered practically exactly."),
        ([example()], "recognisable", "The image was recovered so well that a person"),
        ([example()] * 4, "recognisable", "4 of 4 images were recovered so well"),
        (
            [example(), example(psnr=10), example(psnr=40)],
            "exact",
            "2 of 3 images were recovered so well that a person would recognise them, "
            "1 of them practically exactly.",
        ),
        ([example(psnr=12)] * 2, "identified", "pictures single out the original"),
        # One hit of one among 64 is luck once in 64 times: too often to claim.
        ([example(psnr=12)], "nothing", "nothing usable from 1 image."),
        (
            [example(psnr=20, identified=False)],
            "traces",
            "The image was partly recovered",
        ),
        ([example(psnr=12, identified=False)] * 3, "nothing", "from 3 images."),
    ],
)
def test_verdict(examples, level, says):
    verdict = judge(fake_report(examples))
    assert verdict.level == level
    assert says in verdict.headline


def test_verdict_details():
    bad = example(psnr=12, identified=False, oracle_psnr=30)
    report = fake_report([bad], interrupted=True, knowledge=[])
    report["summary"] |= {"label_accuracy": 0.5, "diverged_share": 0.25}
    details = " ".join(judge(report).details)
    for said in ("stopped early", "50 % of the labels", "a better choice", "25 % of"):
        assert said in details
    given = " ".join(judge(fake_report([example()])).details)
    assert "given to the attacker" in given


def test_luck_against_scipy():
    binom = pytest.importorskip("scipy.stats").binom
    for hits, n, pool in ((1, 4, 64), (2, 4, 64), (2, 4, 5), (16, 128, 16)):
        examples = [
            example(psnr=9, identified=k < hits, oracle_psnr=9) for k in range(n)
        ]
        report = fake_report(examples)
        report["summary"]["chance"] = 1 / pool
        lucky = binom.sf(hits - 1, n, 1 / pool) >= LUCK
        assert (judge(report).level == "nothing") == lucky


def test_pool_of_one_identifies_nothing():
    report = fake_report([example(psnr=9)] * 4)
    report["summary"]["chance"] = 1.0
    assert judge(report).level == "nothing"


def test_many_pictures_are_folded(tmp_path):
    text = write_report(fake_result(side=4), tmp_path).read_text("utf-8")
    assert text.count("<details open>") == 1 and text.count("<details") == 1
    many = fake_result([example(i) for i in range(SHOWN + 3)], side=4)
    text = write_report(many, tmp_path).read_text("utf-8")
    assert "<summary>3 more</summary>" in text and "<details open>" not in text
    assert text.count("<img") == 4 * (SHOWN + 3) + 2
