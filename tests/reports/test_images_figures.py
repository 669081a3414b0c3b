"""Figures of the report of images: what they draw, and what they say in numbers."""

import base64
import importlib.util
import math
import re

import numpy as np
import pytest
from fakes import example, fake_report, fake_result

from jaxinv.audits.images.judge import Curve
from jaxinv.history import Spread
from jaxinv.reports.images import write_report
from jaxinv.reports.images.curves import curves_svg
from jaxinv.reports.images.evidence import agreement, evidence_svg

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing"
)


@needs_matplotlib
class TestCurves:
    def test_drawn_in_both_schemes(self, tmp_path):
        text = write_report(fake_result(), tmp_path).read_text("utf-8")
        svgs = [
            base64.b64decode(part).decode()
            for part in re.findall(r"image/svg\+xml;base64,([\w+/=]+)", text)
        ]
        # Two figures, each for light and for dark screens.
        assert len(set(svgs)) == 4
        for svg in svgs:
            assert "<script" not in svg
            assert not re.search(r'href="(?!#)', svg)

    def test_same_input_same_file(self):
        curves = fake_result().curves
        assert curves_svg(curves) == curves_svg(curves)

    @pytest.mark.parametrize(
        "curve",
        [
            Curve(0, [], [], []),
            Curve(0, [1], [2.0], [2.0]),
            Curve(0, [1, 2], [math.nan, math.inf], [math.nan]),
        ],
    )
    def test_nothing_to_draw(self, curve):
        assert curves_svg([curve]) is None

    def test_a_band_where_there_are_several_starts(self):
        steps, score, num = [1, 2, 3], [3.0, 2.0, 1.0], np.full(3, 4)
        quartiles = np.array([[4.0, 5, 6], [3, 4, 5], [np.nan] * 3])

        def drawn(starts):
            spread = Spread(quartiles, starts, num - 4)
            return curves_svg([Curve(0, steps, score, [1.0, 2.0], spread=spread)])

        without = curves_svg([Curve(0, steps, score, [1.0, 2.0])])
        assert drawn(num).count(b"PolyCollection") > without.count(b"PolyCollection")
        # The quartiles of one start are its curve.
        assert drawn(num - 3) == without

    def test_negative_scores(self):
        assert curves_svg([Curve(0, [1, 2], [-1.0, -2.0], [-2.0])])


def test_agreement_of_score_and_truth():
    scores = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    told = [example(i, score=s, psnr=40.0 - i) for i, s in enumerate(scores)]
    found = agreement(fake_report(told), [])
    assert found.examples == pytest.approx(-1) and found.restarts is None
    fooled = [example(i, score=s, psnr=10.0 + i) for i, s in enumerate(scores)]
    assert agreement(fake_report(fooled), []).examples == pytest.approx(1)
    assert agreement(fake_report(told[:4]), []).examples is None
    assert agreement(fake_report([]), []).examples is None
    # Equal scores order nothing.
    assert agreement(fake_report([example(i) for i in range(9)]), []).examples is None


def test_agreement_among_restarts_against_scipy():
    spearmanr = pytest.importorskip("scipy.stats").spearmanr
    rng = np.random.default_rng(0)
    kept = rng.integers(0, 9, (3, 20, 2)).astype(float)
    expected = np.median([spearmanr(*pairs.T).statistic for pairs in kept])
    kept_and_bad = [np.concatenate([k, [[np.inf, 1], [1, np.nan]]]) for k in kept]
    curves = [Curve(i, [], [], [], k) for i, k in enumerate(kept_and_bad)]
    assert agreement(fake_report([]), curves).restarts == pytest.approx(expected)


@needs_matplotlib
def test_evidence_needs_two_points():
    lone = fake_report([example(0), example(1, psnr=None)])
    assert evidence_svg(lone, []) is None
    pair = fake_report([example(0), example(1, score=-1.0, status="DIVERGED")])
    one = evidence_svg(pair, [])
    assert one and one == evidence_svg(pair, [])
    more = Curve(0, [], [], [], np.array([[0.1, 20.0], [0.2, 19.0], [math.inf, 3.0]]))
    assert evidence_svg(pair, [more]) != one
