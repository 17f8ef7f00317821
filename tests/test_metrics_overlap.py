"""Overlap of label maps against closed forms and MONAI's."""

from __future__ import annotations

import numpy as np
import pytest

from radsynth.metrics._overlap import dice, hausdorff_95


def test_dice_of_shifted_boxes_and_of_absent_labels() -> None:
    truth, result = np.zeros((2, 20, 20), np.uint8), np.zeros((2, 20, 20), np.uint8)
    truth[0, 4:8, 4:8], result[0, 4:8, 5:9] = 1, 1
    result[0, 15, 15] = 2
    found = dice(result, truth, (1, 2))
    assert found[0].tolist() == [0.75, 0.0] and np.isnan(found[1]).all()


@pytest.mark.parametrize(("spacing", "expected"), [(None, 3.0), ((1.0, 2.5), 7.5)])
def test_the_distance_of_shifted_lines_is_the_shift_in_mm(spacing: tuple[float, float] | None, expected: float) -> None:
    truth, result = np.zeros((1, 12, 12), np.uint8), np.zeros((1, 12, 12), np.uint8)
    truth[0, :, 2], result[0, :, 5] = 1, 1
    assert hausdorff_95(result, truth, (1,), spacing)[0, 0] == pytest.approx(expected)


def test_each_image_has_its_own_mm() -> None:
    truth, result = np.zeros((2, 12, 12), np.uint8), np.zeros((2, 12, 12), np.uint8)
    truth[:, :, 2], result[:, :, 5] = 1, 1
    assert hausdorff_95(result, truth, (1,), np.array([[1.0, 0.5], [1.0, 2.0]]))[:, 0].tolist() == [1.5, 6.0]


def test_a_missed_label_is_the_diagonal_and_an_absent_one_is_no_number() -> None:
    truth = np.zeros((1, 4, 5, 3), np.uint8)
    truth[0, 1, 1, 1] = 1
    found = hausdorff_95(np.zeros_like(truth), truth, (1, 2), (1.0, 1.0, 2.0))
    assert found[0, 0] == pytest.approx((9 + 16 + 16) ** 0.5) and np.isnan(found[0, 1])
    assert hausdorff_95(truth, truth, (1,))[0, 0] == 0


@pytest.mark.parametrize("space", [(24, 20), (10, 12, 14)])
def test_both_agree_with_monai(space: tuple[int, ...]) -> None:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    fields = [np.stack([gaussian_filter(rng.standard_normal(space), 2) for _ in range(3)]) for _ in range(2)]
    truth, result = ((field > 0.02).astype(np.uint8) for field in fields)
    spacing = (0.7, 1.3, 2.0)[: len(space)]
    ours, theirs = torch.from_numpy(result)[:, None], torch.from_numpy(truth)[:, None]
    assert np.allclose(dice(result, truth, (1,)), compute_dice(ours, theirs).numpy(), atol=1e-6)
    far = compute_hausdorff_distance(ours, theirs, include_background=True, percentile=95, spacing=list(spacing))
    assert np.allclose(hausdorff_95(result, truth, (1,), spacing), far.numpy(), rtol=1e-4)
