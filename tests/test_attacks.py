"""Attacks on the patients of a training: they find members where a generator leaks, and nobody where it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.metrics import Estimate
from radsynth.metrics._privacy_attacks import Scores, Strength, area, guessed, hits_at, strength
from radsynth.metrics._resampling import share_of
from radsynth.run_folder import RunFolder
from radsynth.verbs._auditing.attacks import TITLES, Attack, Side, _better, _half, _near, _per_patient, attacks
from radsynth.verbs._auditing.copies import Copies, _nearness
from radsynth.verbs._auditing.words import verdict
from tests.phantoms import phantoms


def test_area_and_hits_by_hand() -> None:
    members, others = np.asarray([3.0, 1.0, 2.0]), np.asarray([0.0, 2.0])
    assert area(members, others) == pytest.approx((2 + 1 + 1.5) / 6)
    many = np.arange(200.0)
    assert hits_at(np.asarray([197.5, 196.5, 500.0]), many) == pytest.approx(2 / 3), "198 and 199: 1 % are beyond 197"
    assert hits_at(np.asarray([197.0, 198.0]), many) == 0.5, "as high as the threshold is not beyond it"


def test_intervals_are_of_patients_and_wider_than_of_images() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 10)
    shared = np.repeat(generator.normal(size=40), 10)

    def width(owner: NDArray[np.int64]) -> float:
        found = strength(Scores(values=shared, patients=owner), Scores(values=shared[::-1].copy(), patients=owner))
        return found.auc.high - found.auc.low

    assert width(patients) > 2 * width(np.arange(400))


def test_an_attack_with_the_discriminator_is_none_with_the_images() -> None:
    """It was counted among those, and alone it made the images pass."""
    guessing = Estimate(value=0.5, low=0.45, high=0.55)
    strength = Strength(auc=guessing, hits=Estimate(value=0.01, low=0, high=0.03), members=50, others=50)
    inside, outside = (Attack(name=name, title=TITLES[name], meaning="", main=strength, control=strength,
                              baseline=strength, found=False)
                       for name in ("membership_discriminator", "membership_nearness"))
    copies = Copies(count=0, share=share_of(0, 500), threshold=0.9, expected=0.005, by="", nearness=[], chance=1.0,
                    pairs=[])
    text, passed = verdict(copies, [inside], [])
    assert passed is None and "no attack with the images could be tried" in text
    text, passed = verdict(copies, [inside, outside], [])
    assert passed is True and "no attack with the images (Membership by nearness) did better" in text


@pytest.mark.parametrize(("auc", "hits", "control", "baseline", "found"), [
    (0.55, 0.0, (0.5, 0.01), (0.5, 0.01), True), (0.49, 0.0, (0.45, 0.01), (0.45, 0.01), False),
    (0.55, 0.0, (0.56, 0.01), (0.5, 0.01), False), (0.55, 0.0, (0.5, 0.01), (0.56, 0.01), False),
    (0.45, 0.02, (0.5, 0.01), (0.5, 0.01), True), (0.45, 0.005, (0.5, 0.0), (0.5, 0.0), False),
    (0.45, 0.02, (0.5, 0.03), (0.5, 0.01), False), (0.45, 0.02, (0.5, 0.01), (0.5, 0.03), False)])
def test_an_attack_is_better_than_guessing_than_its_control_and_than_its_baseline_or_it_does_not_work(
    auc: float, hits: float, control: tuple[float, float], baseline: tuple[float, float], found: bool
) -> None:
    """auc, hits: the lower ends of the attack's intervals; the others are values."""
    def strong(area: float, hit: float, width: float) -> Strength:
        ends = (Estimate(value=value + width, low=value, high=value + 2 * width) for value in (area, hit))
        return Strength(auc=next(ends), hits=next(ends), members=50, others=50)

    assert _better(strong(auc, hits, 0.1), strong(*control, 0.0), strong(*baseline, 0.0)) is found


@pytest.mark.parametrize("others", [20, 45, 98, 99, 150, 1000])
def test_who_guesses_finds_as_many_as_guessing_is_said_to_find(others: int) -> None:
    """The largest of 45 unseen images is passed by 1 of 46, and not by a hundredth."""
    generator = np.random.default_rng(others)
    found = [hits_at(generator.random(200), generator.random(others)) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(guessed(others), rel=0.1)
    assert guessed(others) == pytest.approx(max(1, 1 + others // 100) / (others + 1))
    auc, hits = Estimate(value=0.5, low=0.4, high=0.6), Estimate(value=0.03, low=0.015, high=0.05)
    none = Strength(auc=auc, hits=Estimate(value=0, low=0, high=0), members=others, others=others)
    assert _better(Strength(auc=auc, hits=hits, members=others, others=others), none, none) is (guessed(others) < 0.015)


def test_a_verdict_without_copies_says_what_became_of_the_attacks() -> None:
    even = Estimate(value=0.5, low=0.4, high=0.6)
    part = Strength(auc=even, hits=Estimate(value=0, low=0, high=0.1), members=45, others=45)
    tried = Attack(name="membership_nearness", title="Membership by nearness", meaning="", main=part, control=part,
                   baseline=part, found=False)
    text, passed = verdict(None, [tried], [{"name": "copies", "title": "Copies", "reason": "too few"}])
    assert passed is None and "no attack with the images (Membership by nearness) did better" in text
    assert "Not tried" not in text, "that copies were not looked for is said already"


def test_a_patient_counts_by_the_mean_of_the_images_however_many_they_are() -> None:
    assert _per_patient(np.asarray([1.0, 10.0, 3.0]), np.asarray([7, 2, 7])).tolist() == [10.0, 2.0]


@pytest.mark.parametrize("leaks", [True, False])
def test_calibrated_nearness_finds_members_that_nearness_does_not_and_nobody_without_a_leak(leaks: bool) -> None:
    """Images that differ in how usual they are: an unusual one is far from everything, also from its own vague copy."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> NDArray[np.float32]:
        images = generator.normal(size=(count, 20)) * np.exp(0.5 * generator.normal(size=(count, 1)))
        return np.asarray(images, dtype=np.float32)

    images = {"members": draw(150), "others": draw(200), "made": draw(300)}
    if leaks:
        size = np.linalg.norm(images["members"], axis=1, keepdims=True) / np.sqrt(20)
        copies = images["members"] + 0.9 * size * generator.normal(size=images["members"].shape)
        images["made"] = np.asarray(np.concatenate([images["made"][:150], copies]), dtype=np.float32)
    found = _near(images, {name: _half(np.arange(len(images[name])), 0) for name in ("members", "others")})

    def area_of(suspicion: dict[str, NDArray[np.float64]]) -> Estimate:
        return strength(*(Scores(values=values, patients=np.arange(len(values)))
                          for values in suspicion.values())).auc

    near, calibrated, real = (area_of(scores) for scores in (found.synthetic, found.calibrated(), found.real))
    assert near.low < 0.5 and real.low < 0.5
    assert (calibrated.low > 0.5) == leaks


def test_attacks_find_members_by_what_a_leaking_generator_makes_and_nobody_by_what_a_clean_one_makes(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    """30 patients in training and 50 unseen ones with three images each; leaked: their images with noise."""
    folder = make_prepared(240, (32, 32))
    np.save(folder / "shards" / "00000.images.npy", np.rint((phantoms(240, 0) + 1) * 127.5).astype(np.uint8))
    lines = (folder / "records.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    for number, fields in enumerate(rows):
        fields[0], fields[2] = "train" if number < 90 else "test", f"p{number // 3}"
    (folder / "records.csv").write_text("\n".join([lines[0], *(",".join(fields) for fields in rows)]) + "\n")
    prepared = Prepared(folder)
    members, others = (Side(prepared=prepared, rows=prepared.indices(split),
                            patients=prepared.patients(prepared.indices(split))) for split in ("train", "test"))
    noise = 0.05 * np.random.default_rng(0).normal(size=(90, 1, 32, 32))
    leaked = np.clip(members[np.arange(90)] + noise, -1, 1).astype(np.float32)
    bare = RunFolder(tmp_path / "bare")  # a run without checkpoints
    bare.path.mkdir()
    (bare.path / "settings.yaml").write_text("task: {}\nmodel: {kind: sngan}\naugment: {}\ntrain: {}\n")
    for made, leaks in ((leaked, True), (phantoms(90, 9), False)):
        refused: list[dict[str, str]] = []
        tried = attacks(bare, made, members, others, refused, seed=0)
        assert [line["name"] for line in refused] == ["membership_discriminator"]
        assert {attack.name: attack.found for attack in tried} == {
            "membership_nearness": leaks, "membership_calibrated": leaks, "reidentification": leaks}
        assert all((attack.main.auc.value > 0.9) == leaks for attack in tried)
        assert all(abs(part.auc.value - 0.5) < 0.2 for attack in tried for part in (attack.control, attack.baseline))
        assert [(attack.main.members, attack.main.others) for attack in tried] == [(90, 150), (90, 150), (30, 50)]
    assert all(one.closer.low > 0.5 and one.ratio < 1 for one in _nearness(leaked, members, others))
    few = dataclasses.replace(members, rows=members.rows[:45], patients=members.patients[:45])
    nobodys = _nearness(phantoms(90, 9), few, others)  # of 45 training and 150 unseen images, it was 1 in 4
    assert all(one.closer.low <= 0.5 <= one.closer.high for one in nobodys)
    text, passed = verdict(None, attacks(bare, leaked, members, others, [], seed=0), [])
    assert passed is False and "Membership by nearness works" in text and "Re-identification of patients works" in text
    assert "of the training images found" in text and "of the training patients found" in text
