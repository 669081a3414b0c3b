"""The plot of defences: its numbers are those of the table."""

import re

import pytest

from jaxinv.reports.defenses.plot import pareto_svg


def row(psnr, accuracy, pareto=False):
    strongest = {"psnr": psnr, "psnr_interval": None}
    return {
        "strongest": strongest,
        "accuracy": accuracy,
        "accuracy_interval": None,
        "pareto": pareto,
    }


def test_points_carry_the_numbers_of_the_table():
    pytest.importorskip("matplotlib")
    rows = [row(30.0, 0.9), row(None, 0.5), row(9.0, 0.8, pareto=True)]
    drawn = pareto_svg(rows)
    # matplotlib says in a comment what each text is, drawn as it is from outlines.
    said = re.findall(r"<!-- (\d) -->", drawn.decode())
    assert "1" in said and "3" in said and "2" not in said
    assert pareto_svg([row(None, 0.5)]) is None
