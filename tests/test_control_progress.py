"""How far `control` is, and what it does not make or hold twice."""

from __future__ import annotations

import pytest

from radsynth.verbs._steering.attributes import Attribute
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import find_directions, measure_effects, study, truncation_sweep, unmoved
from tests.test_control import HALVES, Linear


def test_what_takes_minutes_says_how_far_it_is_and_makes_no_image_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of volumes a thousand images may take an hour, and all at once in double precision more memory than there is."""
    space, told, drawn, measured = LatentSpace(Linear()), list[int](), list[int](), list[int]()
    images = space.images
    monkeypatch.setattr(space, "images", lambda codes, labels: [drawn.append(len(codes)), images(codes, labels)][1])
    counted = Attribute(name="a", unit="", meaning="", measure=lambda some: [
        measured.append(len(some)), HALVES[0].measure(some)][1])
    of = study(space, count=400, measured=(counted,), done=told.append)
    assert told == [64, 128, 192, 256, 320, 384, 400] and max(measured) == 64
    start, line = unmoved(of, seed=0, label=None, count=8), find_directions(of)[0]
    drawn.clear()
    told.clear()
    found = measure_effects(of, line, seed=0, label=None, start=start, done=told.append)
    assert told == [1, 2, 3, 4] and drawn == [8] * 4
    assert found.effects == measure_effects(of, line, seed=0, label=None, count=8).effects
    drawn.clear()
    truncation_sweep(of, truncations=(0.5, 1.0))
    assert sum(drawn) == 256  # without truncation they are those of the study
