"""Texture features against pyradiomics 3.0.1, which is no dependency: its numbers are written down here."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.metrics._texture import cooccurrence, directions, run_lengths, zone_sizes

LEVELS = 5
ROWS, COLUMNS = np.mgrid[:12, :10]
PLANE = ((ROWS * ROWS + 3 * COLUMNS) // 4 + (ROWS * COLUMNS) // 7) % LEVELS
S, R, C = np.mgrid[:5, :6, :7]
VOLUME = ((S * S + R + 2 * C) // 3 + (S * R * C) // 9) % LEVELS

PYRADIOMICS = {
    ("cooccurrence", "plane"): [
        8.996085859, 3.009869529, 32.47021383, 0.104623985, 3.685483617, 3.938510101, -0.033356722, 1.64263468,
        2.111198969, 1.228263265, 0.047023947, 4.509806784, -0.029471833, 0.342728119, 0.401122252, 0.471370651,
        0.433066487, 0.075841751, 2.914465237, 1.90599843],
    ("run_lengths", "plane"): [
        0.898206987, 1.539192558, 21.503999294, 0.207223044, 79.968906555, 0.76895023, 0.864583333, 1.895862804,
        0.195212893, 2.887564203, 0.277489125, 10.673866567, 0.251739464, 9.464802052, 0.410333533, 16.922467714],
    ("zone_sizes", "plane"): [
        0.615873656, 5.451612903, 12.838709677, 0.207075963, 22.483870968, 0.36264308, 0.516666667, 1.812695109,
        1.705515088, 3.812607116, 0.29968638, 9.870967742, 0.199239254, 4.946133513, 1.333373656, 59.548387097],
    ("cooccurrence", "volume"): [
        9.347811355, 3.040793651, 32.932970076, -0.106452982, 3.717449547, 3.313290598, 0.058067592, 1.411349206,
        1.962739896, 1.221238002, 0.052381621, 4.4049792, -0.089066384, 0.498720148, 0.47617823, 0.532076313,
        0.436847867, 0.083421856, 2.895074036, 1.757685036],
    ("run_lengths", "volume"): [
        0.868708165, 1.72853701, 35.696583258, 0.202514814, 131.641349243, 0.729194249, 0.839194139, 1.868720761,
        0.235278017, 2.984286628, 0.269104952, 11.02966339, 0.236908185, 9.659457627, 0.437047507, 18.868511969],
    ("zone_sizes", "volume"): [
        0.395428258, 501.0, 3.571428571, 0.255102041, 2.571428571, 0.183673469, 0.066666667, 2.739795918, 276.0,
        3.324862958, 0.424623016, 10.5, 0.125858954, 6.112902104, 91.243194444, 6150.5],
}
FAMILIES = {"cooccurrence": cooccurrence, "run_lengths": run_lengths, "zone_sizes": zone_sizes}
SUBJECTS = {"plane": PLANE, "volume": VOLUME}


@pytest.mark.parametrize(("family", "subject"), PYRADIOMICS)
def test_parity_with_pyradiomics(family: str, subject: str) -> None:
    image: NDArray[np.int64] = SUBJECTS[subject]
    # A second image in the batch must not reach into the first.
    batch = np.stack([image, image[::-1]])
    found = FAMILIES[family](batch, LEVELS)
    np.testing.assert_allclose(found[0], PYRADIOMICS[family, subject], rtol=1e-6, atol=1e-8)


def test_a_plane_has_four_directions_and_a_volume_thirteen() -> None:
    for dimensions, count in ((2, 4), (3, 13)):
        found = directions(dimensions)
        assert len(found) == count == len(set(found) | {tuple(-s for s in d) for d in found}) / 2


def test_co_occurrence_agrees_with_scikit_image() -> None:
    from skimage.feature import graycomatrix, graycoprops

    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(PLANE.astype(np.uint8), [1], angles, levels=LEVELS, symmetric=True, normed=True)
    found = cooccurrence(PLANE[None], LEVELS)[0]
    assert found[5] == pytest.approx(graycoprops(matrix, "contrast").mean())
    assert found[6] == pytest.approx(graycoprops(matrix, "correlation").mean())
    assert found[10] == pytest.approx(graycoprops(matrix, "ASM").mean())
    assert found[14] == pytest.approx(graycoprops(matrix, "homogeneity").mean())


def test_a_volume_of_one_slice_is_measured_as_that_slice() -> None:
    for name, family in FAMILIES.items():
        found = family(PLANE[None, None], LEVELS)
        np.testing.assert_allclose(found, family(PLANE[None], LEVELS), err_msg=name)


def test_an_image_of_one_level_is_finite() -> None:
    flat = np.zeros((2, 6, 6), dtype=np.int64)
    for family in FAMILIES.values():
        assert np.isfinite(family(flat, LEVELS)).all()
    zones = zone_sizes(flat, LEVELS)[0]
    assert zones[1] == 36**2 and zones[6] == 1 / 36  # one zone of all pixels
