"""Contours are filled as scikit-image fills them, and without gaps where the middle of a pixel lies on an edge."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import polygon

from radsynth.errors import RejectedFile
from radsynth.io._dicom_contours import within


@pytest.mark.parametrize("seed", range(20))
def test_pixels_within_polygons_are_those_of_scikit_image(seed: int) -> None:
    """Also of polygons that cross themselves, lie within others, or reach out of the picture."""
    rng = np.random.default_rng(seed)
    corners = [rng.uniform(-10, 40, (rng.integers(3, 30), 2)) for _ in range(rng.integers(1, 4))]
    expected = np.zeros((31, 23), bool)
    for one in corners:
        expected[polygon(one[:, 0], one[:, 1], expected.shape)] ^= True
    assert np.array_equal(within(corners, (31, 23)), expected)


def test_polygons_beside_each_other_share_no_pixel_and_leave_none_out() -> None:
    """Their common edges run through the middles of pixels."""
    squares = [np.array([[r, c], [r, c + 4], [r + 3, c + 4], [r + 3, c]], float) for r in (0, 3) for c in (0, 4)]
    counts = sum(within([square], (6, 8)).astype(int) for square in squares)
    assert np.array_equal(counts, np.ones((6, 8)))
    assert within([squares[0]], (6, 8)).sum() == 12


def test_edges_that_cross_millions_of_rows_are_refused() -> None:
    """A small file of them would take gigabytes and hours."""
    zigzag = np.stack([np.tile([-1.0, 512.0], 2000), np.linspace(0, 500, 4000)], axis=1)
    with pytest.raises(RejectedFile, match=r"cross 2,048,000 rows; the limit is 2,000,000"):
        within([zigzag], (512, 512))


def test_a_keyhole_is_a_hole() -> None:
    """An outline that goes in to its hole and back along the same line, as radiotherapy draws holes."""
    outer, inner = [[0.5, 0.5], [0.5, 9.5], [9.5, 9.5], [9.5, 0.5]], [[3.5, 3.5], [6.5, 3.5], [6.5, 6.5], [3.5, 6.5]]
    keyhole = np.array([*outer, outer[0], *inner, inner[0]])
    inside = within([keyhole], (11, 11))
    assert inside.sum() == 81 - 9 and not inside[4:7, 4:7].any()
