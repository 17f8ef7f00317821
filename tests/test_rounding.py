"""Numbers as texts for people."""

from __future__ import annotations

import pytest

from radsynth._rounding import rounded
from radsynth._summaries import numbers
from radsynth._tables import print_tables


@pytest.mark.parametrize(("value", "digits", "text"), [
    (1019.2, 3, "1019"), (999.6, 3, "1000"), (999.4, 3, "999"), (12345.6, 4, "12346"), (-12345.6, 4, "-12346"),
    (99996.0, 4, "99996"), (0.1234567, 4, "0.1235"), (0.0, 3, "0"), (120.4, 2, "120"), (4.26, 2, "4.3")])
def test_numbers_of_many_digits_are_not_powers_of_ten(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


def test_printed_tables_show_large_numbers_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    number = {"title": "Time", "unit": "ms", "methods": [{"method": "B-spline", "value": 890.2, "low": 760.1,
                                                          "high": 1019.4}]}
    print_tables({**numbers({"pairs": {"numbers": [number]}}), "rows": [{"value": 12345.6}], "size": 50000.5})
    out = capsys.readouterr().out
    assert "890 (760 to 1019)" in out and "12346" in out and "50000" in out and "e+0" not in out


def test_printed_numbers_have_their_unit(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"title": "Intensity histogram distance", "unit": "HU", "value": 12.5, "low": 11.0, "high": 14.0,
           "floor": 3.0, "n": 50, "better": "down to floor"}
    print_tables(numbers({"measurements": [one], "classes": {"lung": {
        "measurements": [{**one, "name": "coverage", "title": "Coverage", "unit": "share"}], "refused": []}}}))
    out = capsys.readouterr().out
    assert "HU" in out and "share" in out
