"""The start from noisy sums: its bound, its noise, its means and directions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.tasks import _private_start
from radsynth.tasks._private_start import SPREAD, _covariance, _directions, _sums, _told, release
from tests.private.examples import Make, groups_of, make_loop


class Ones:
    """In place of random numbers, so that a sum shows the size of its noise."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.ones(shape)


@pytest.mark.parametrize("images", [1, 4])
def test_one_patient_moves_what_is_told_by_at_most_its_bound(
    images: int, make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(make_prepared(labels=("small", "large")))
    groups = groups_of(prepared, images)
    extreme = np.sign(np.random.default_rng(0).normal(size=(len(prepared.rows), 1, 16, 16))).astype(np.float32)
    monkeypatch.setattr(Prepared, "images", lambda self, rows: extreme[rows])
    whole, fewer = (_sums(prepared, some, (16, 16))[0] for some in (groups, groups[1:]))
    moved = float((whole - fewer).norm())
    assert moved <= 16 * 1.0001 and (images > 1 or moved > 15.9), "all images of a patient together, over all classes"
    means = torch.zeros(2, 1, 8, 8)
    for told in (torch.eye(2), torch.ones(2, 1)):  # a covariance for each class, and one for both
        whole, fewer = (_covariance(prepared, some, means, (8, 8), told) for some in (groups, groups[1:]))
        moved = float((whole - fewer).norm())
        assert moved <= SPREAD**2 * 64 * 1.0001 and (images > 1 or moved > SPREAD**2 * 63)


def test_the_start_is_the_mean_and_the_principal_directions_of_the_classes(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared(labels=("small", "large")))
    groups, latent = groups_of(prepared), 40
    found = release(prepared, groups, latent, (0.0, 0.0), np.random.default_rng(0))
    rows = prepared.indices("train")
    images, labels = torch.from_numpy(prepared.images(rows)), prepared.labels(rows)
    of_class = torch.stack([images[labels == k].mean(0) for k in (0, 1)])
    assert torch.allclose(found.means, of_class, atol=1e-5)
    rest = (images - of_class[labels]).flatten(1)
    rest *= (SPREAD * 16 / rest.norm(dim=1, keepdim=True)).clamp(max=1)
    assert found.coarse == (16, 16)
    for k in (0, 1):
        of_one = rest[labels == k]
        covariance = of_one.T @ of_one / len(of_one)
        assert torch.allclose(found.directions[k].T @ found.directions[k], covariance, atol=1e-3)
    made = found.pictures(torch.randn(4000, latent), torch.zeros(4000, dtype=torch.int64), (16, 16))
    assert float((made.mean(0) - of_class[0]).abs().max()) < 0.1


def test_the_start_has_the_noise_of_its_account(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared())
    groups = groups_of(prepared)
    quiet = release(prepared, groups, 8, (0.0, 0.0), np.random.default_rng(0)).means
    noisy = release(prepared, groups, 8, (0.03, 0.0), Ones()).means  # type: ignore[arg-type]  # stands for a generator
    inside = quiet.abs() < 0.9  # where the noise does not leave the range
    assert torch.allclose((noisy - quiet)[inside], torch.tensor(0.03 * 16 / len(groups)), atol=1e-4)


def test_the_covariance_has_the_noise_of_its_account(make_prepared: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One patient changes it by SPREAD^2 times the pixels at most: so much is the unit of its noise."""
    prepared, seen, found = Prepared(make_prepared()), [], _private_start._directions

    def noted(covariance: torch.Tensor, noise: float, *of: Any) -> Any:
        seen.append((covariance.clone(), noise))
        return found(covariance, noise, *of)

    monkeypatch.setattr(_private_start, "_directions", noted)
    groups = groups_of(prepared)
    for noise in (0.0, 0.03):
        release(prepared, groups, 8, (0.0, noise), Ones())  # type: ignore[arg-type]  # stands for a generator
    (quiet, none), (noisy, told) = seen
    unit = SPREAD**2 * 16 * 16 / len(groups)
    assert (none, told) == (0, pytest.approx(0.03 * unit))
    assert torch.allclose(noisy - quiet, torch.tensor(0.03 * unit), atol=1e-5)


def test_classes_with_few_patients_share_a_covariance() -> None:
    assert _told(torch.tensor([3000.0, 900.0, 2000.0, 10.0]), 1.0).tolist() == [
        [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert _told(torch.tensor([3000.0, 900.0]), 0.0).tolist() == [[1, 0], [0, 1]], "without noise each has its own"
    assert _told(torch.tensor([30.0, 90.0]), 1.0).tolist() == [[1], [1]]


def test_directions_stand_above_the_noise_and_lose_it() -> None:
    generator = torch.Generator().manual_seed(0)
    d, s = 256, 0.1
    planted = torch.linalg.qr(torch.randn(d, 2, generator=generator))[0]
    noise = torch.randn(d, d, generator=generator) * s
    edge = s * math.sqrt(2 * d)
    assert float(torch.linalg.eigvalsh((noise + noise.T) / 2).max()) == pytest.approx(edge, rel=0.05)
    covariance = planted @ torch.diag(torch.tensor([20.0, 8.0])) @ planted.T + (noise + noise.T) / 2
    _, nothing = _directions((noise + noise.T) / 2, s, (16, 16), 1, 8)
    assert not nothing.any(), "noise alone has no directions"
    coarse, found = _directions(covariance, s, (16, 16), 1, 8)
    assert coarse == (16, 16)
    sizes = found.square().sum(1)
    assert sizes[:2].tolist() == pytest.approx([8.0, 20.0], rel=0.1) and not sizes[2:].any()
    smooth = torch.nn.functional.interpolate(torch.randn(1, 1, 4, 4, generator=generator), (16, 16)).flatten()
    covariance = 1.5 * torch.outer(smooth, smooth) / smooth.square().sum() + (noise + noise.T) / 2
    coarse, found = _directions(covariance, s, (16, 16), 1, 8)
    assert coarse in ((8, 8), (4, 4)) and found.any(), "seen only where the noise is averaged away"


def test_the_warm_start_shows_no_patient_to_the_discriminator(make_prepared: Make, tmp_path: Path) -> None:
    loop = make_loop(make_prepared(), tmp_path, "task.warm_start=0.25")
    assert loop.private is not None
    names = [sorted(loop.take_step()) for _ in range(3)]
    assert names[:2] == [["generator/start"]] * 2 and "discriminator/epsilon" in names[2]
    assert loop.private.spent()["turns"] == 2
