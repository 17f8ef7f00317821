"""The pictures of the report: shape, greys, window, and how they fit a page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.arrays import IntensityMap
from radsynth.image import ImageSpec
from radsynth.verbs._grid import black_and_white, shades, shown_window
from radsynth.verbs._report.images import masked, sheets
from radsynth.verbs._report.page import template
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs.report import report
from tests.report.examples import MEASURED, RESULTS, SPEC, add, page


def test_two_masks_are_not_as_wide_as_the_page(run: Path) -> None:
    (run / "pictures").mkdir(exist_ok=True)
    np.save(run / "pictures" / "masks.npy", np.zeros((2, 3, 32, 16), np.uint8))
    shown = masked(RunFiles(run))
    assert shown is not None
    sheet = Pillow.open(io.BytesIO(base64.b64decode(shown["image"].partition(",")[2])))
    assert sheet.size == (6 * 17 - 1, 3 * 33 - 1)


def test_every_contrast_stands_below_the_mask(run: Path) -> None:
    add(run, results=RESULTS | {"context": RESULTS["context"] | {"window": [-160.0, 240.0]}},
        spec=SPEC | {"spec": SPEC["spec"] | {"channels": ["t1", "flair"], "units": "HU"}})
    array = np.zeros((6, 3, 2, 16, 16), np.uint8)
    for k, shade in enumerate([[9, 9], [50, 150], [100, 200]]):
        array[:, k] = np.asarray(shade)[:, None, None]
    np.save(run / "pictures" / "masks.npy", array)
    shown = masked(RunFiles(run))
    assert shown is not None
    sheet = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(shown["image"].partition(",")[2]))))
    assert sheet[::17, 0].tolist() == [9, 50, 100, 150, 200], "the mask, T1 of both, FLAIR of both"
    assert "the mask; for each of t1, flair: the synthetic image and the patient's own image" in shown["caption"]
    assert "Of images, black is \u2212160, white 240 HU." in shown["caption"]
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"channels": ["red", "green", "blue"]}})
    np.save(run / "pictures" / "masks.npy", np.zeros((6, 3, 3, 16, 16), np.uint8))
    coloured = masked(RunFiles(run))
    assert coloured is not None
    assert Pillow.open(io.BytesIO(base64.b64decode(coloured["image"].partition(",")[2]))).mode == "RGB"


def test_each_contrast_has_a_histogram(run: Path) -> None:
    """Pooled, a FLAIR too bright and a T1 too dark lay on each other."""
    each = [{"real": [0.5, 0.5], "synthetic": [0.4, 0.6]}, {"real": [0.1, 0.9], "synthetic": [0.2, 0.8]}]
    results = RESULTS | {"measurements": [*RESULTS["measurements"], MEASURED | {"name": "intensity_distance"}]}
    add(run, results=results | {"histogram": RESULTS["histogram"] | {"channels": each}},
        spec=SPEC | {"spec": SPEC["spec"] | {"channels": ["t1", "flair"]}})
    text = report(run).read_text()
    assert "<figcaption>t1</figcaption>" in text and "real and synthetic intensities of flair in grey levels" in text
    distance = "says the intensity histogram distance above"
    assert f"{distance}, the mean over these 2 channels." in text
    add(run, results=results, spec=SPEC)
    text = report(run).read_text()
    assert 'aria-label="Histograms of real and synthetic intensities in grey levels"' in text
    assert f"{distance}. Heights" in text


def test_each_contrast_is_told_in_its_own_range(run: Path) -> None:
    each = [{"real": [1, 0], "synthetic": [0, 1], "low": low, "high": high} for low, high in ((-900, 80), (0, 9))]
    add(run, results=RESULTS | {"histogram": RESULTS["histogram"] | {"channels": each}},
        spec=SPEC | {"spec": SPEC["spec"] | {"channels": ["ct", "pet"]},
                     "intensity": SPEC["intensity"] | {"method": "percentiles", "ranges": [[-900, 80], [0, 9]]}})
    text = report(run).read_text()
    told = "ct \u2212900 to 80, pet 0 to 9 grey levels"
    assert f"black to white is {told} (medians: each channel" in text
    assert f"{told} at most, the range learned from" in text


def test_volumes_and_colours_are_shown(run: Path) -> None:
    for shape in ((4, 1, 6, 8, 10), (4, 3, 12, 12), (4, 2, 12, 12)):
        for name in ("real", "synthetic"):
            np.save(run / "pictures" / f"{name}.npy", np.zeros(shape, np.uint8))
        assert "Taken evenly over both sets" in page(run).text


def _sizes(text: str) -> set[tuple[int, int]]:
    """Of the page's pictures of images."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="', text)
    return {Pillow.open(io.BytesIO(base64.b64decode(data))).size for data in found}


@pytest.mark.parametrize(("channels", "sizes"), [
    (["t1", "t2", "flair"], {(2 * 36 + 1, 5 * 13 - 1), (36, 2 * 13 - 1)}),
    (["red", "green", "blue"], {(6 * 13 - 1, 2 * 13 - 1), (2 * 13 - 1, 12)}),
])
def test_three_contrasts_are_no_colours(channels: list[str], sizes: set[tuple[int, int]], run: Path) -> None:
    """They stand side by side, and the page says which is which: T1 in red, T2 in green says nothing to anybody.

    Fewer stand in a row then, and those of a closest pair one above the other.
    """
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"size": [12, 12], "channels": channels}})
    for name in ("real", "synthetic"):
        np.save(run / "pictures" / f"{name}.npy", np.zeros((9, 3, 12, 12), np.uint8))
    np.save(run / "pictures" / "neighbours.npy", np.zeros((1, 2, 3, 12, 12), np.uint8))
    text = report(run).read_text()
    assert _sizes(text) >= sizes
    contrasts = channels[0] == "t1"
    assert ("Channels stand side by side: t1, t2, flair." in text) == contrasts
    assert ("closest to a training image (below)" if contrasts else "closest to a training image (right)") in text


def test_sheets_of_contrasts_stand_on_a_printed_page(run: Path) -> None:
    """Twenty-four rows of four contrasts went over three pages, with their heading alone on one before them."""
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"channels": ["t1", "t1ce", "t2", "flair"]}})
    array = np.tile(np.arange(24, dtype=np.uint8)[:, None, None, None], (1, 4, 16, 16))
    for name in ("real", "synthetic"):
        np.save(run / "pictures" / f"{name}.npy", array)
    content = sheets(RunFiles(run))[0]["image"].partition(",")[2]
    sheet = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(content))))
    assert sheet.shape[0] <= 1.6 * sheet.shape[1]
    assert sheet[::17, 0].tolist() == [0, 4, 9, 13, 18, 23], "from all over the set"


def test_contrasts_of_a_volume_stand_one_below_the_other(run: Path) -> None:
    """Four times three planes in a row were a stripe of a few millimetres."""
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"size": [8, 16, 16], "channels": ["t1", "flair"]}})
    for name in ("real", "synthetic"):
        np.save(run / "pictures" / f"{name}.npy", np.zeros((12, 2, 8, 16, 16), np.uint8))
    text = report(run).read_text()
    assert "Channels stand one below the other: t1, flair." in text
    assert (2 * (3 * 16 + 1) - 1, 4 * (2 * 16 + 1) - 1) in _sizes(text), "two in a row, each of two rows of planes"


def test_the_page_says_how_volumes_are_shown(run: Path) -> None:
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"size": [6, 8, 10]}})
    for name in ("real", "synthetic"):
        np.save(run / "pictures" / f"{name}.npy", np.zeros((2, 1, 6, 8, 10), np.uint8))
    assert "its middle slices across the three axes" in page(run).text


def test_thick_slices_are_as_high_as_in_the_body(run: Path) -> None:
    """Of volumes whose slices are three pixels apart the head was pressed to a third of its height."""
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"size": [8, 20, 16], "spacing": [3.0, 1.0, 1.0]}})
    for name in ("real", "synthetic"):
        np.save(run / "pictures" / f"{name}.npy", np.full((1, 1, 8, 20, 16), 200, np.uint8))
    content = sheets(RunFiles(run))[0]["image"].partition(",")[2]
    shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(content))))[:, :52]
    assert ((shown > 100).sum(0) == [20] * 16 + [24] * (16 + 20)).all(), "axial, coronal, sagittal: 1 mm is one pixel"


def test_ct_is_shown_in_its_window() -> None:
    spec = ImageSpec(size=(16, 16), units="HU", modality="CT", window=(-160.0, 240.0))
    intensity = IntensityMap(method="window", low=-1024.0, high=1500.0, levels=65535)
    values = np.asarray([-1000.0, -160.0, 40.0, 240.0, 1000.0], np.float32)
    network = (2 * (values + 1024) / 2524 - 1).astype(np.float32)
    shown = shades(network, black_and_white(shown_window(spec), intensity))
    assert shown.tolist() == [0, 0, 127, 255, 255] or shown.tolist() == [0, 0, 128, 255, 255]
    assert shown_window(ImageSpec(size=(16, 16), units="stored", window=(0.0, 1.0))) is None
    assert black_and_white(None, intensity) == (-1.0, 1.0)


@pytest.mark.parametrize(("rows", "at_once", "folded"), [(4, 4, 0), (12, 6, 6)])
def test_the_numbers_are_not_far_below_the_pictures_of_results(rows: int, at_once: int, folded: int, run: Path) -> None:
    pairs = {"numbers": [], "task": "restore", "images": 12, "patients": 12, "virtual": False, "split": "test",
             "columns": ["given", "this run", "truth"], "inputs": ["grey"], "outputs": ["grey"]}
    (run / "results.json").write_text(json.dumps({"pairs": pairs}))
    np.save(run / "pictures" / "pairs.npy", np.zeros((rows, 3, 16, 16), np.uint8))
    sheets = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="(Further r|R)ows', report(run).read_text())
    heights = [Pillow.open(io.BytesIO(base64.b64decode(data))).height for data, _ in sheets]
    assert heights == [17 * count - 1 for count in (at_once, folded) if count]


def test_from_which_disagreement_on_registrations_are_flagged_is_said(run: Path) -> None:
    pairs = {"numbers": [], "task": "register", "images": 4, "patients": 4, "virtual": False, "split": "test",
             "columns": ["moving", "fixed"]}
    add(run, results={"pairs": pairs, "limits": {"disagreement": 12.34}, "limits_from_patients": 6})
    text = page(run).text
    assert "by more than 12.3 %: 100 % less the correlation of both as wholes" in text
    assert "By chance this flags images of one usual patient in 7, because the limit is the largest number of 6" in text
    add(run, results={"pairs": pairs, "limits": {}, "limits_from_patients": 0})  # between contrasts nobody knows
    assert "flagged for disagreement" not in page(run).text


def test_which_label_is_which_grey_is_said(run: Path) -> None:
    found = {"numbers": [], "task": "segment", "images": 4, "patients": 4, "virtual": False, "split": "test",
             "columns": ["given", "this run", "truth"], "inputs": ["grey"], "outputs": ["grey"]}
    add(run, results={"pairs": found})
    np.save(run / "pictures" / "pairs.npy", np.zeros((4, 3, 16, 16), np.uint8))
    for spec, told in (
        ({"mask_classes": 3, "mask_values": [0, 2], "mask_names": []}, ""),  # one label needs no key
        ({"mask_classes": 4, "mask_values": [0, 1, 3]}, "from dark to light: label 1, label 3."),
        ({"mask_classes": 3, "mask_values": [], "mask_names": ["none", "edema", "<b>core"]},
         "The background is black; from dark to light: edema, &lt;b&gt;core."),
        ({"mask_classes": 40}, ""), ({}, ""),
    ):
        add(run, spec=SPEC | {"spec": SPEC["spec"] | spec})
        text = page(run).text
        assert told in text and ("from dark to light" in text) == bool(told), spec


@pytest.mark.browser
def test_results_beside_the_truth_fit_a_printed_page(run: Path, browser: Any) -> None:
    """Rows of square images were higher than a sheet: their names stood on one page, they on the next two."""
    pairs = {"numbers": [], "task": "restore", "images": 12, "patients": 12, "virtual": False, "split": "test",
             "columns": ["given", "this run", "another", "truth"], "inputs": ["grey"], "outputs": ["grey"]}
    (run / "results.json").write_text(json.dumps({"pairs": pairs}))
    np.save(run / "pictures" / "pairs.npy", np.zeros((12, 4, 16, 16), np.uint8))
    page = browser.new_page(viewport={"width": 718, "height": 1047})  # of A4 with margins of a centimetre
    page.emulate_media(media="print")
    page.goto(report(run).as_uri())
    boxes = [one.bounding_box() for one in page.locator(".rows").all()]
    names = page.locator(".rows .heads").first.bounding_box()
    picture = page.locator(".rows img").first.bounding_box()
    assert len(boxes) == 2 and all(box["height"] < 1047 for box in boxes)
    assert names["width"] == pytest.approx(picture["width"], abs=1), "each name stands above its column"


@pytest.mark.browser
def test_tall_pictures_and_long_settings_fit_a_printed_page(run: Path, browser: Any) -> None:
    """Eight contrasts below a mask were higher than a sheet; a pattern of patients' names ran over two columns."""
    add(run, spec=SPEC | {"spec": SPEC["spec"] | {"channels": list("abcdefgh")}})
    np.save(run / "pictures" / "masks.npy", np.zeros((8, 3, 8, 16, 16), np.uint8))
    (run / "settings.yaml").write_text(f"data:\n  patient_pattern: {'(?P<patient>x)' * 20}\n" + "  more: 1\n" * 200)
    page = browser.new_page(viewport={"width": 718, "height": 1047})  # of A4 with margins of a centimetre
    page.emulate_media(media="print")
    page.goto(report(run).as_uri())
    masks = page.locator("img[alt^='Rows of 8']").bounding_box()
    wide, inside = page.locator("pre").evaluate("one => [one.clientWidth, one.scrollWidth]")
    lines = page.locator("pre").evaluate("""one => {
        const range = document.createRange(); range.selectNodeContents(one);
        return [...range.getClientRects()].map(line => line.width); }""")
    assert masks["height"] < 1000
    assert inside <= wide and max(lines) < wide / 3, "within a column"


@pytest.mark.browser
def test_charts_and_previews_stay_with_what_is_said_of_them_on_paper(run: Path, browser: Any) -> None:
    """A heading of two lines, and a paragraph of as many, were cut in two by the edge of a sheet."""
    page = browser.new_page()
    page.emulate_media(media="print")
    page.goto(report(run).as_uri())
    rules = [page.locator(place).evaluate_all("all => all.map(one => getComputedStyle(one).breakInside)")
             for place in ("div:has(> figure.chart)", "p:has(+ .strip)")]
    assert all(rules) and {rule for found in rules for rule in found} == {"avoid"}


@pytest.mark.browser
def test_what_is_real_and_what_synthetic_is_told_on_a_small_telephone_too(run: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 320, "height": 800})
    page.goto(report(run).as_uri())
    ends = page.locator(".kind").evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert len(ends) > 2 and max(ends) <= 304, "within the margin"


def test_many_names_above_a_picture_become_one_line_on_a_telephone() -> None:
    heads = template("report/_macros.html").module.heads
    assert 'class="heads many"' in heads(list("abcdefg")) and 'class="heads"' in heads(list("abcde"))
    assert "</span> <span>" in heads(list("abcdefg")), "without a blank the line broke within words"
    style = template("report/style.css").render()
    assert ".heads.many { display: block;" in style.split("@media screen and (max-width")[1].split("@media")[0]
