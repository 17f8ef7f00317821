"""Numbers as texts for people."""

from __future__ import annotations

import numpy as np
import pytest

from radsynth._rounding import rounded
from radsynth._summaries import numbers
from radsynth._tables import print_tables
from radsynth.errors import RejectedFile, SettingsError
from radsynth.io import check_labels
from radsynth.verbs._numbers import Numbers


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


def test_refusals_show_large_numbers_as_they_are() -> None:
    """This one ended with: not 0 to 1.23457e+06."""
    with pytest.raises(RejectedFile, match="not 0 to 1234567\\."):
        check_labels(np.array([0, 1234567]))
    with pytest.raises(SettingsError, match="training images had 0 to 2000000; ask"):
        Numbers({"activity": [0.0, 2e6]}, {"activity": 3e6})


def test_what_is_empty_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A ranking without warnings had the word mind beside nothing."""
    print_tables({"mind": "", "interval": "95 %"})
    assert capsys.readouterr().out.split() == ["interval", "95", "%"]


def test_printed_numbers_have_their_unit(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"title": "Intensity histogram distance", "unit": "HU", "value": 12.5, "low": 11.0, "high": 14.0,
           "floor": 3.0, "n": 50, "better": "down to floor"}
    print_tables(numbers({"measurements": [one], "classes": {"lung": {
        "measurements": [{**one, "name": "coverage", "title": "Coverage", "unit": "share"}], "refused": []}}}))
    out = capsys.readouterr().out
    assert "HU" in out and "share" in out


def test_numbers_of_hundreds_of_places_are_not_written_out() -> None:
    assert (rounded(1e300), rounded(-1e300, 4), rounded(999999999999999)) == ("1e+300", "-1e+300", "999999999999999")
