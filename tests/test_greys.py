"""Grey values around a flat background: roots and back, which data have one, where it is kept, and older weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models import Networks, build
from radsynth.models._greys import SOFT, Greys, as_many
from radsynth.models.sngan import Settings as Sngan
from radsynth.settings import resolve
from radsynth.tasks import build as build_task
from radsynth.tasks._warm_start import backgrounds, greys_of
from radsynth.tasks.synthesis import Synthesis
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._training.start import fit
from radsynth.verbs.train import train

GREY = 96 / 127.5 - 1


def networks(**spec: object) -> Networks:
    torch.manual_seed(0)
    return build(Sngan(width=8, latent=8), ImageSpec(**{"size": (16, 16), **spec}))  # type: ignore[arg-type]


def greys_in(network: torch.nn.Module) -> Greys:
    (found,) = (part for part in network.modules() if isinstance(part, Greys))
    return found


def given(greys: Greys, *backgrounds: float, low: float = -0.3, high: float = 0.9) -> Greys:
    value = torch.tensor([backgrounds])
    greys.set(value, torch.full_like(value, low), torch.full_like(value, high))
    return greys


def test_roots_fill_the_range_and_lead_back_and_leave_the_background_flat() -> None:
    greys, images = given(Greys(1, 1), GREY), torch.linspace(-0.3, 0.9, 1201).view(1, 1, 1, -1)
    roots = greys(images)
    assert float(roots.min()) == pytest.approx(-1) and float(roots.max()) == pytest.approx(1)
    assert (roots.diff() > 0).all() and torch.allclose(greys.back(roots), images, atol=1e-6)
    grey = torch.tensor(GREY).view(1, 1, 1, 1)
    ripples = greys.back(greys(grey) + torch.linspace(-0.1, 0.1, 21).view(1, 1, 1, -1)) - GREY
    assert ripples.abs().max() < 1 / 127.5, "a tenth of the unit is less than a grey value there"
    far = (images - GREY).abs() > 0.2
    expected = (images - GREY).sign() * (images - GREY).abs().sqrt()
    assert torch.allclose((roots * greys.reach + greys.middle)[far], expected[far], atol=2 * SOFT**0.5)


def test_slopes_through_both_are_one_and_finite_on_the_background() -> None:
    greys, images = given(Greys(1, 1), GREY), torch.tensor([-0.3, GREY, GREY + 1e-4, 0.5]).view(1, 1, 1, 4)
    roots = greys(images).requires_grad_()
    greys(greys.back(roots)).sum().backward()
    assert roots.grad is not None and torch.allclose(roots.grad, torch.ones_like(roots), atol=1e-3)


def test_without_a_background_nothing_changes_to_the_last_bit() -> None:
    images = torch.rand(4, 2, 8, 8) * 2 - 1
    greys = Greys(1, 2)
    assert greys(images) is images and greys.back(images) is images
    given(greys, GREY, torch.nan)
    assert torch.equal(greys(images)[:, 1], images[:, 1]) and torch.equal(greys.back(images)[:, 1], images[:, 1])
    assert not torch.equal(greys(images)[:, 0], images[:, 0])
    wider = Greys(1, 3)
    wider.take(given(Greys(1, 1), GREY))
    more = torch.rand(2, 3, 4, 4)
    assert torch.equal(wider(more)[:, 1:], more[:, 1:]) and not torch.equal(wider(more)[:, 0], more[:, 0])


def test_only_images_close_to_a_flat_background_are_seen_as_roots() -> None:
    noise = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    centre = torch.zeros_like(noise, dtype=torch.bool)
    centre[..., 4:12, 4:12] = True
    close, far = (torch.where(centre, GREY + reach * noise, GREY) for reach in (0.3, 1.2))
    images = torch.cat([close, far, noise], 1)
    greys = greys_of([images], backgrounds(images)[None])
    assert (greys.reach > 0).tolist() == [[True, False, False]]


def greyed(folder: Path) -> Path:
    """The prepared images on grey instead of black, and close to it."""
    stored = folder / "shards" / "00000.images.npy"
    np.save(stored, np.load(stored) // 4 + 96)
    return folder


def task_of(data: Prepared, *more: str) -> Synthesis:
    overrides = ("model.kind=sngan", "model.width=8", "model.latent=8", "task.anchor=10", *more)
    settings = resolve(overrides=overrides, sections=("task", "model", "augment"))
    task = build_task(settings, data.spec)
    assert isinstance(task, Synthesis)
    task.study(data, 0)
    return task


@pytest.mark.parametrize(("labels", "size"), [((), (16, 16)), (("small", "large"), (16, 16)), ((), (8, 16, 16))])
def test_networks_take_it_from_the_training_images_and_start_from_their_mean(
    make_prepared: Callable[..., Path], labels: tuple[str, ...], size: tuple[int, ...]
) -> None:
    data = Prepared(greyed(make_prepared(labels=labels, size=size)))
    nets = task_of(data).networks()
    stored = torch.from_numpy(data.images(data.indices("train")))
    known = torch.from_numpy(data.labels(data.indices("train")))
    for network in nets.values():
        greys = greys_in(network)
        assert greys.background.shape == (max(len(labels), 1), 1)
        assert torch.allclose(greys.background, torch.tensor(GREY)) and greys.used
        assert float(greys(stored, known).max()) == pytest.approx(1, abs=0.15)  # few lie beyond the quantile
    latents, classes = torch.randn(8, 8), torch.arange(8) % 2 if labels else None
    with torch.no_grad():
        nets["generator"].layers[-1].weight.zero_()
        drawn = nets["generator"].eval()(latents, classes)
    corner = (..., slice(0, 2), slice(0, 2))
    assert (drawn - GREY)[corner].abs().max() < 0.01
    of = stored[known == 0] if labels else stored
    greys = greys_in(nets["generator"])
    mean = greys(of, torch.zeros(len(of), dtype=torch.long)).mean(0).clamp(-0.97, 0.97)
    assert torch.allclose(greys(drawn, classes)[0], mean, atol=1e-3)


def test_each_class_has_a_unit_of_its_own(make_prepared: Callable[..., Path]) -> None:
    """Organs in one run: one class lies close to a grey background, the other on black."""
    folder = make_prepared(labels=("small", "large"))
    data = Prepared(folder)
    stored = folder / "shards" / "00000.images.npy"
    images, first = np.load(stored), np.array([row.label == 0 for row in data.rows])
    images[first] = images[first] // 4 + 96
    np.save(stored, images)
    data = Prepared(folder)
    task = task_of(data, "augment.strength=1", "augment.shift=0", "augment.contrast=0", "augment.cutout=0.5")
    nets = task.networks()
    for network in nets.values():
        assert (greys_in(network).reach > 0).tolist() == [[True], [False]]
    training = data.indices("train")
    batch = Batch(images=torch.from_numpy(data.images(training)), labels=torch.from_numpy(data.labels(training)),
                  seed=0, items=tuple(range(len(training))))
    black = batch.labels == 1
    assert torch.equal(greys_in(nets["generator"])(batch.images, batch.labels)[black], batch.images[black])
    changed = task._augmented(batch.images, batch, "real")
    cut = changed != batch.images
    assert (changed[black][cut[black]] == -1).all(), "a cut-out of the second class is black"
    assert changed[~black][cut[~black]].min() > -0.5, "of the first one the end of its range"
    latents = torch.randn(2, 8)
    with torch.no_grad():
        nets["generator"].layers[-1].weight.zero_()
        drawn = nets["generator"].eval()(latents, torch.tensor([0, 1]))
    means = torch.stack([batch.images[~black].mean(0), batch.images[black].mean(0)])
    corner = (..., slice(0, 2), slice(0, 2))
    assert (drawn - means)[corner].abs().max() < 0.05, "both begin on their own background"


def test_what_classes_agree_on_holds_for_others() -> None:
    own = torch.zeros(3, 2)
    one, same, unlike = torch.tensor([0.1, 0.2]), torch.full((2, 2), 0.3), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert torch.equal(as_many(one, own), one.expand(3, 2)), "older weights have one for all classes"
    assert torch.equal(as_many(same, own), torch.full((3, 2), 0.3))
    assert torch.equal(as_many(unlike, own), own)
    assert torch.equal(as_many(unlike, own[:2]), unlike)


def test_older_weights_with_one_background_for_all_classes_are_read() -> None:
    generator = networks(labels=("a", "b"))["generator"]
    older = {name: value[0] if "greys." in name or "background." in name else value
             for name, value in generator.state_dict().items()}
    older.update({name: torch.full_like(value, 0.5) for name, value in older.items() if "greys." in name})
    for load in (generator.load_state_dict, lambda state: fit(generator, state, "an older run")):
        given(greys_in(generator), 0.0, low=-1, high=1)
        load(older)
        assert torch.equal(greys_in(generator).reach, torch.full((2, 1), 0.5)) and greys_in(generator).used


def test_a_start_of_other_channels_is_refused_in_words() -> None:
    """Not with what torch says of backgrounds that do not fit: for a run of colours and one class, and grey classes."""
    source = networks(channels=("red", "green", "blue"))["generator"].state_dict()
    with pytest.raises(SettingsError, match="channels"):
        fit(networks(labels=("a", "b"))["generator"], source, "the generator of train.start")


def test_augmentation_acts_on_roots(make_prepared: Callable[..., Path]) -> None:
    data = Prepared(greyed(make_prepared()))
    task = task_of(data, "augment.strength=1", "augment.shift=0", "augment.contrast=0", "augment.cutout=0.5")
    images = torch.from_numpy(data.images(data.indices("train")[:8]))
    batch = Batch(images=images, seed=0, items=tuple(range(8)))
    changed = task._augmented(images, batch, "real")
    stored = torch.from_numpy(data.images(data.indices("train")))
    least = greys_of([stored], backgrounds(stored)[None]).back(-torch.ones(1, 1, 1, 1))
    assert torch.allclose(changed[changed != images].min(), least, atol=1e-5), "a cut-out is the end of the range"
    assert least > -0.5


def test_a_run_keeps_it(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    settings = resolve(overrides=("model.kind=sngan", "model.width=8", "model.latent=8", "task.anchor=10",
                                  "train.images=64", "train.batch=16", "train.previews=0"))
    data = greyed(make_prepared())
    run = train(data, tmp_path / "run", settings=settings).path
    kept = greys_in(Sampler(run).network)
    assert float(kept.background) == pytest.approx(GREY, abs=1e-6) and kept.used
    more = resolve({"train": {"start": str(run)}}, overrides=("task.anchor=10", "train.images=64", "train.batch=16"))
    later = greys_in(Sampler(train(data, tmp_path / "later", settings=more).path).network)
    assert torch.equal(later.reach, kept.reach) and later.used


def test_older_weights_have_none_and_a_start_keeps_its_own() -> None:
    for more in ({}, {"conditions": ("age",)}):
        generator = networks(**more)["generator"]
        older = {name: value.clone() for name, value in generator.state_dict().items() if "greys." not in name}
        given(greys_in(generator), GREY)
        own = generator.state_dict()
        fresh = networks(**more)["generator"]
        fit(fresh, older, "an older base")
        assert not greys_in(fresh).used
        fit(fresh, own, "a newer base")
        assert float(greys_in(fresh).background) == pytest.approx(GREY, abs=1e-6) and greys_in(fresh).used
        generator.load_state_dict(older)
        assert not greys_in(generator).used and not greys_in(generator).reach.any()
