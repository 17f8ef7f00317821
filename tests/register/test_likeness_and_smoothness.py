"""Losses and numbers of registration: correlation, roughness, bending, folding, errors in mm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radsynth.losses.alignment import _Correlation, bending, label_mismatch, local_correlation, roughness
from radsynth.metrics._registration import folding, jacobian_determinants, label_overlap, target_registration_error
from radsynth.tasks._warp import grid
from tests.register.examples import inner


@pytest.mark.parametrize("space", [(20, 17), (10, 12, 11)])
def test_local_correlation_is_monais_and_blind_to_brightness_and_contrast(space: tuple[int, ...]) -> None:
    from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss

    one, other = torch.rand(2, 1, *space), torch.rand(2, 1, *space)
    found = local_correlation(one, other, 5)
    loss = LocalNormalizedCrossCorrelationLoss(len(space), kernel_size=5, kernel_type="rectangular", reduction="none",
                                               smooth_nr=0, smooth_dr=1e-4)
    theirs = -loss(other, one)[inner(space, 2)].mean(dim=tuple(range(1, one.ndim)))  # whole windows alone
    assert torch.allclose(found, theirs, atol=5e-3)
    assert torch.allclose(local_correlation(one, 0.3 - 2 * one, 5), torch.ones(2), atol=0.02)


@pytest.mark.parametrize("space", [(6, 7), (5, 4, 4)])
def test_gradients_that_are_written_out_are_those_of_finite_differences(space: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    warped, fixed = torch.rand(2, 2, 1, *space, generator=generator, dtype=torch.float64)
    moments = torch.rand(2, 2, 1, *[side - 2 for side in space], generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda y: _Correlation.apply(y, fixed, *moments, [3] * len(space)),
                                    warped.requires_grad_())
    field = torch.rand(2, len(space), *space, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda found: bending(found, 20.0), field)
    thin = torch.rand(1, 2, 5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda found: bending(found, 20.0), thin)
    assert torch.autograd.gradcheck(roughness, field)


def test_roughness_and_label_mismatch_have_their_closed_forms() -> None:
    assert float(roughness(grid((9, 9)).movedim(-1, 0)[None])) == pytest.approx(0.5)  # slopes 1, 0, 0, 1
    flat = grid((1, 9, 9)).movedim(-1, 0)[None]
    assert float(roughness(flat)) == pytest.approx(1 / 3), "an axis of one pixel has no slope"
    a = torch.zeros(1, 2, 4, 4)
    a[0, 0, :2], b = 1, torch.zeros(1, 2, 4, 4)
    b[0, 0, 1:3] = 1
    assert float(label_mismatch(a, b)) == pytest.approx(0.5) and float(label_mismatch(a, a)) == pytest.approx(0)
    assert float(label_mismatch(torch.zeros_like(a), torch.zeros_like(a))) == 0, "a label that neither has"


@pytest.mark.parametrize("space", [(12, 9), (12, 8, 7), (12, 8, 1)])
def test_bending_has_its_closed_form_at_every_size_and_grows_gently(space: tuple[int, ...]) -> None:
    def bent(finer: int) -> torch.Tensor:
        sides = tuple(finer * side if side > 1 else 1 for side in space)
        rows, columns = (grid(sides)[..., axis] / max(sides) for axis in (0, 1))
        field = torch.zeros(1, len(space), *sides)
        field[0, 0], field[0, 1] = 0.3 * rows.square() + 0.2 * columns, 0.4 * rows * columns  # |H|^2 = 0.6^2 + 2 0.4^2
        return field

    squares = 0.6**2 + 2 * 0.4**2
    for finer in (1, 3):
        assert float(bending(bent(finer), 100.0)) == pytest.approx(squares, rel=1e-3)
        assert float(bending(bent(finer), 0.5)) == pytest.approx(0.5 * (math.sqrt(1 + 4 * squares) - 1), rel=1e-3)
    assert float(bending(grid((5, 5)).movedim(-1, 0)[None], 1.0)) == 0, "scaling bends nothing"


@pytest.mark.parametrize("space", [(7, 9), (5, 6, 4)])
def test_bending_of_any_field_is_that_of_its_second_differences(space: tuple[int, ...]) -> None:
    field, axes = np.random.default_rng(0).normal(size=(2, len(space), *space)), range(len(space))
    energies, unit = [], np.eye(len(space), dtype=int)
    for item, *place in np.ndindex(2, *(side - 2 for side in space)):
        def at(*moves: np.ndarray, item: int = item, place: tuple[int, ...] = tuple(place)) -> np.ndarray:
            return np.asarray(field[(item, slice(None), *(np.add(place, 1) + sum(moves)))])

        plain = [at(unit[a]) - 2 * at(0 * unit[a]) + at(-unit[a]) for a in axes]
        mixed = [(at(unit[a], unit[b]) - at(unit[a], -unit[b]) - at(-unit[a], unit[b]) + at(-unit[a], -unit[b])) / 4
                 for a in axes for b in axes if a != b]
        squares = max(space)**4 * (np.square(plain).sum() + np.square(mixed).sum())
        energies.append(2 * 300**2 * (math.sqrt(1 + squares / 300**2) - 1))
    assert float(bending(torch.from_numpy(field), 300.0)) == pytest.approx(np.mean(energies), rel=1e-9)


def test_folding_is_measured_on_analytic_fields() -> None:
    rows = np.arange(40, dtype=np.float32)
    wave = np.zeros((2, 2, 40, 30), np.float32)
    wave[0, 0] = (2.0 * np.sin(rows / 2))[:, None]  # det = 1 + cos(p / 2): never below 0
    wave[1, 0] = (6.0 * np.sin(rows / 2))[:, None]  # det = 1 + 3 cos(p / 2): below 0 where cos < -1/3
    determinants = jacobian_determinants(wave)
    assert np.allclose(determinants[1, 2:-2], (1 + 6 * np.sin(0.5) * np.cos(rows / 2))[2:-2, None], atol=1e-3)
    share = float((1 + 6 * np.sin(0.5) * np.cos(rows / 2) <= 0).mean())
    assert folding(wave)[0] == 0 and folding(wave)[1] == pytest.approx(share, abs=0.051) and share > 0.3
    scaled = 0.5 * np.stack(np.meshgrid(*[np.arange(6, dtype=np.float32)] * 3, indexing="ij"))[None]
    assert np.allclose(jacobian_determinants(scaled), 1.5**3)


@pytest.mark.parametrize("space", [(11, 7), (9, 4, 5), (1, 6), (6, 1)])
def test_folding_is_the_same_in_parts(space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = np.random.default_rng(0).normal(0, 3, (2, len(space), *space)).astype(np.float32)
    whole = folding(fields)
    assert np.allclose(whole, (jacobian_determinants(fields) <= 0).reshape(2, -1).mean(1)) and whole.any()
    for pixels in (1, 2 * math.prod(space[1:]), 3 * math.prod(space[1:])):
        monkeypatch.setattr("radsynth.metrics._registration.SLAB", pixels)
        assert np.array_equal(folding(fields), whole)


def test_errors_are_in_mm_and_labels_that_one_patient_lacks_do_not_count() -> None:
    found, truth = np.zeros((2, 2, 8, 8), np.float32), np.zeros((2, 2, 8, 8), np.float32)
    truth[0, 0], truth[0, 1], inside = 3, 4, np.ones((2, 8, 8), bool)
    inside[1] = False
    errors = target_registration_error(found, truth, inside, (2.0, 2.0))
    assert errors[0] == pytest.approx(10) and np.isnan(errors[1])
    fixed = np.zeros((1, 4, 4), np.uint8)
    fixed[0, :2], fixed[0, 3, 3] = 1, 2
    moving = np.where(fixed == 2, 0, fixed)
    assert label_overlap(fixed, fixed, fixed, 3)[0] == 1
    assert label_overlap(moving, fixed, moving, 3)[0] == 1 and np.isnan(label_overlap(fixed, fixed, 0 * fixed, 3)[0])
