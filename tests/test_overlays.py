"""Pictures of the most doubtful results: of volumes the slice in which most speaks against them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._pairs.overlays import overlays
from radsynth.verbs._report.page import template

STRIPED = 2
"""The slice in which the result shows what was not there; the middle one is 4."""


def applier_of(*space: int) -> Any:
    settings = resolve(overrides=("task.kind=restore",), sections=("task", "model"))
    spec = ImageSpec(size=space)
    task: Any = build(settings, spec)

    def network_of(given: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        made: NDArray[np.float32] = task.enlarge(torch.from_numpy(given)).numpy()
        made[:, 0, STRIPED] = np.where(np.arange(made.shape[-1]) // 2 % 2, 1, -1)
        return made

    return SimpleNamespace(task=task, network_of=network_of, target="", anatomy=None, spec=spec, intensity=None)


def test_of_volumes_the_slice_is_shown_in_which_most_speaks_against_the_result() -> None:
    given = np.random.default_rng(0).uniform(-1, 0, (1, 1, 4, 6, 5)).astype(np.float32)
    usual = {"inconsistency": 20.0, "mean_inconsistency": 5.0, "edges": 20.0, "uncertainty": 5.0}
    pictures, place = overlays(applier_of(8, 12, 10), given, usual)
    assert place == STRIPED and pictures.shape == (5, 3, 12, 10)
    assert (pictures[1] == np.where(np.arange(10) // 2 % 2, 255, 0)).all()
    assert (pictures[2, 0] > pictures[2, 1]).any(), "red where it is inconsistent"


def test_of_images_there_is_no_choice() -> None:
    given = np.random.default_rng(0).uniform(-1, 0, (1, 1, 6, 5)).astype(np.float32)
    pictures, place = overlays(applier_of(12, 10), given, {"edges": 20.0})
    assert place is None and pictures.shape == (3, 3, 12, 10)


@pytest.mark.parametrize("slices", [None, [2]])
def test_the_report_says_which_slice_it_shows(slices: list[int] | None) -> None:
    page = template("report/doubts.html").render(doubts={
        "rows": [{"flags": "", "image": ""}], "slices": slices, "columns": [], "chance": "", "of_whole": "",
        "worth": "", "crops": False})
    assert ("of each volume the slice in which most does" in page) is bool(slices)
