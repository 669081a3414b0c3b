"""What every page shares."""

from jaxinv.reports.page import figures, number


def test_numbers_for_people():
    assert [number(None), number(0.0, 2), number(31.25, 1, " dB")] == [
        "n/a",
        "0.00",
        "31.2 dB",
    ]
    assert [figures(v) for v in (None, 0.0, 2.512e-5, 1234567.0)] == [
        "n/a",
        "0",
        "2.51e-05",
        "1.23e+06",
    ]
