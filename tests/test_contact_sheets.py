"""Contact sheets of `control` and `explain`: what stands on them, and that it can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from radsynth.arrays import IntensityMap
from radsynth.image import RGB, ImageSpec
from radsynth.verbs._grid import display
from radsynth.verbs._steering.contact_sheets import Shown, save_sheet


def test_contrasts_stand_side_by_side_on_a_sheet() -> None:
    """Three of them were red, green and blue: colours that mean nothing."""
    spec = ImageSpec(size=(4, 8, 8), channels=("t1", "t2", "flair"))
    shown = Shown.of(spec, IntensityMap(method="bits", low=0, high=255, levels=255))
    assert not shown.colour
    assert "8 x 8 pixels; of each volume the middle slice; channels side by side: t1, t2, flair." in shown.words
    coloured = Shown.of(replace(spec, channels=RGB), IntensityMap(method="bits", low=0, high=255, levels=255))
    assert coloured.colour and "side by side" not in coloured.words
    images = np.zeros((2, 3, 8, 8), np.float32)
    assert display(images, colour=False).shape == (2, 8, 24) and display(images).shape == (2, 8, 8, 3)


def test_long_names_of_columns_do_not_lie_upon_each_other(tmp_path: Path) -> None:
    """Counterfactuals name their columns after classes; names are as wide as their columns at most."""
    name, widths = "squamous cell carcinoma of the left upper lobe", []
    for columns in (["a", ""], [name, ""], [name.replace(" ", "-"), ""]):
        save_sheet([np.ones((2, 1, 96, 96), np.float32)], tmp_path / "a.png", Shown(words="", ends=(-1, 1)), title="",
                   row_names=[""], column_names=columns, caption="")
        with Picture.open(tmp_path / "a.png") as picture:
            above = (np.asarray(picture)[:-120] < 128).any((0, 2)).nonzero()[0]
        widths.append(int(above[-1] - above[0]))
    assert widths[0] < 12 and min(widths[1:]) > 48 and max(widths[1:]) < 98


def test_long_titles_do_not_lie_upon_the_names_of_columns(tmp_path: Path) -> None:
    """The ways between classes have the name of one in their title."""
    heights = []
    for title in ("short", "the way from squamous cell carcinoma of the left upper lobe to the other classes " * 2):
        save_sheet([np.ones((2, 1, 96, 96), np.float32)], tmp_path / "a.png", Shown(words="", ends=(-1, 1)),
                   title=title, row_names=[""], column_names=["", ""], caption="")
        with Picture.open(tmp_path / "a.png") as picture:
            written = (np.asarray(picture)[:-40] < 128).any((1, 2)).nonzero()[0]
            heights.append(picture.height - written[-1])
    assert abs(heights[1] - heights[0]) < 4, "the title ends as far above the images as a short one"


@pytest.mark.filterwarnings("error")
def test_letters_of_other_scripts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They were boxes, and lines of Python's warnings went over the terminal."""
    for name in ("\u1d81 d", "\U0010fffd none"):  # in a font that comes with matplotlib, in none
        save_sheet([np.ones((2, 1, 8, 8), np.float32)], tmp_path / "a.png", Shown(words="", ends=(-1, 1)), title=name,
                   row_names=[name], column_names=["", ""], caption="")
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1 and "No installed font has the letters \U0010fffd:" in told[0]


def test_dollar_signs_in_the_names_of_classes_are_no_formulas(tmp_path: Path) -> None:
    """This one ended in a traceback, after the directions had been looked for."""
    images = np.zeros((2, 1, 8, 8), np.float32)
    save_sheet([images], tmp_path / "a.png", Shown(words="", ends=(-1, 1)), title="t", row_names=[r"to $\lesion$"],
               column_names=["a", "b"], caption=r"From $\healthy$.")
    assert (tmp_path / "a.png").is_file()


def test_a_sheet_carries_its_caption_and_its_mark_below(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 8, 8), np.float32)
    strips = []
    for caption in ("one", "two"):
        save_sheet([images], tmp_path / "a.png", Shown(words="", ends=(-1, 1)), title="t", row_names=["r"],
                   column_names=["a", "b"], caption=caption, notes=[["1", "2"]])
        with Picture.open(tmp_path / "a.png") as picture:
            assert picture.mode == "RGB"
            strips.append(np.asarray(picture)[-40:])
    caption_rows, mark_rows = [(strip < 200).any((1, 2)).nonzero()[0] for strip in strips]
    assert len(caption_rows) > 12 and len(mark_rows) > 12, "two lines"
    assert not np.array_equal(*strips)
