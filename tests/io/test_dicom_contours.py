"""Contours are filled as scikit-image fills them, and without gaps where the middle of a pixel lies on an edge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from skimage.draw import polygon

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.io._dicom_contours import between, filled, left_out
from radsynth.io._dicom_structures import labels_on, structures
from tests.structures import boxes, contours, outlines, scan


@pytest.mark.parametrize("seed", range(20))
def test_pixels_within_polygons_are_those_of_scikit_image(seed: int) -> None:
    """Also of polygons that cross themselves, lie within others, or reach out of the picture."""
    rng = np.random.default_rng(seed)
    corners = [rng.uniform(-10, 40, (rng.integers(3, 30), 2)) for _ in range(rng.integers(1, 4))]
    expected = np.zeros((31, 23), bool)
    for one in corners:
        expected[polygon(one[:, 0], one[:, 1], expected.shape)] ^= True
    assert np.array_equal(filled(corners, (31, 23)), expected)


def test_polygons_beside_each_other_share_no_pixel_and_leave_none_out() -> None:
    """Their common edges run through the middles of pixels."""
    squares = [np.array([[r, c], [r, c + 4], [r + 3, c + 4], [r + 3, c]], float) for r in (0, 3) for c in (0, 4)]
    counts = sum(filled([square], (6, 8)).astype(int) for square in squares)
    assert np.array_equal(counts, np.ones((6, 8)))
    assert filled([squares[0]], (6, 8)).sum() == 12


def test_edges_that_cross_millions_of_rows_are_refused() -> None:
    """A small file of them would take gigabytes and hours."""
    zigzag = np.stack([np.tile([-1.0, 512.0], 2000), np.linspace(0, 500, 4000)], axis=1)
    with pytest.raises(RejectedFile, match=r"cross 2,048,000 rows; the limit is 2,000,000"):
        filled([zigzag], (512, 512))


def test_a_keyhole_is_a_hole() -> None:
    """An outline that goes in to its hole and back along the same line, as radiotherapy draws holes."""
    outer, inner = [[0.5, 0.5], [0.5, 9.5], [9.5, 9.5], [9.5, 0.5]], [[3.5, 3.5], [6.5, 3.5], [6.5, 6.5], [3.5, 6.5]]
    keyhole = np.array([*outer, outer[0], *inner, inner[0]])
    inside = filled([keyhole], (11, 11))
    assert inside.sum() == 81 - 9 and not inside[4:7, 4:7].any()


@pytest.mark.parametrize(("planes", "mm", "expected"), [
    ([3, 4, 5, 6], 3.0, []),
    ([9, 3, 5, 7], 3.0, [(3, 5), (5, 7), (7, 9)]),
    ([3, 5, 7, 20, 22, 24], 3.0, [(3, 5), (5, 7), (20, 22), (22, 24)]),
    ([3, 4, 6, 8, 10], 3.0, [(4, 6), (6, 8), (8, 10)]),
    ([3, 4, 5, 7, 8, 9], 3.0, []),
    ([3, 5], 3.0, []),
    ([10, 30, 50, 70], 1.0, []),
    ([10, 15, 20, 25], 1.0, [(10, 15), (15, 20), (20, 25)]),
], ids=["every", "every second", "two parts", "most", "one gap", "two alone", "three nodules", "every fifth"])
def test_slices_were_left_out_where_most_contours_are_apart(
        planes: list[int], mm: float, expected: list[tuple[int, int]]) -> None:
    assert left_out(planes, mm) == expected


def test_between_two_discs_lie_some_of_radii_between_theirs() -> None:
    place = np.stack(np.mgrid[:60, :60])
    discs = {radius: np.hypot(*(place - 30)) < radius for radius in (8, 12, 16, 20)}
    for made, radius in zip(between(discs[20], discs[8], 3), (16, 12), strict=True):
        assert (made != discs[radius]).sum() <= 0.03 * discs[radius].sum()
    assert not list(between(discs[20], np.zeros_like(discs[20]), 2))


@pytest.mark.parametrize("degrees", [0, 40, 100])
def test_contours_on_every_second_slice_leave_none_empty(degrees: float, tmp_path: Path) -> None:
    """A cone, as a radiologist draws it who skips slices; above it a part that is farther off."""
    files = scan(tmp_path / "CT", degrees, space=(16, 24, 20))
    cone, (rows, columns) = np.zeros((16, 24, 20), bool), np.mgrid[:24, :20]
    for place in (*range(1, 10), 14, 15):
        cone[place] = np.hypot(rows - 12, columns - 10) < 10 - 0.6 * place
    drawn = [(place, line) for place, line in outlines({"Liver": cone})["Liver"] if place % 2]
    path = contours(files, {"Liver": drawn}, tmp_path / "rt.dcm")
    image, = io.read(tmp_path / "CT")
    labels, regridded = labels_on([path], {"liver": 1}, image)
    cone[14] = False
    all_of_them = contours(files, outlines({"Liver": cone}), tmp_path / "all.dcm")
    expected, as_drawn = labels_on([all_of_them], {"liver": 1}, image)
    assert regridded and not as_drawn and (labels != expected).sum() < 0.06 * expected.sum()


@pytest.mark.parametrize("status", ["APPROVED", "UNAPPROVED", "REJECTED"])
def test_contours_that_their_reviewer_rejected_are_no_mask(status: str, tmp_path: Path) -> None:
    path = contours(scan(tmp_path / "CT"), outlines(boxes()), tmp_path / "rt.dcm")
    dataset = pydicom.dcmread(path)
    dataset.ApprovalStatus = status
    dataset.save_as(path)
    if status == "REJECTED":
        with pytest.raises(RejectedFile, match=r"whoever reviewed it rejected its structures"):
            structures(path)
    else:
        assert structures(path).names == {1: "Liver", 2: "Tumour"}
