from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image as Pillow

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.files import temporary_of
from radsynth.image import Image
from radsynth.io import Provenance, read, write
from radsynth.metrics import _features, radiomics
from radsynth.run_folder import TRAINING, RunFolder
from radsynth.settings import resolve
from radsynth.verbs._evaluating.measuring import Scale
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs._preparing.preparation import preparation_of
from radsynth.verbs.evaluate import Settings, evaluate, evaluate_prepared
from radsynth.verbs.prepare import prepare
from tests.compared import compare

FAST = Settings(repetitions=10, pairs=3)


def discs(n: int, seed: int, noise: float = 0.02) -> NDArray[np.float32]:
    """Discs of random place, size and brightness, (n, 1, 16, 16)."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    place, radius = generator.uniform(5, 11, (n, 2, 1, 1)), generator.uniform(2, 5, (n, 1, 1))
    inside = np.hypot(rows - place[:, 0], columns - place[:, 1]) < radius
    images = np.where(inside, generator.uniform(0, 1, (n, 1, 1)), -0.9) + noise * generator.normal(size=(n, 16, 16))
    return np.clip(images, -1, 1)[:, None].astype(np.float32)


def values(results: dict[str, object]) -> dict[str, dict[str, float]]:
    measurements = results["measurements"]
    assert isinstance(measurements, list)
    return {one["name"]: one for one in measurements}


def test_results_and_pictures_are_written(tmp_path: Path) -> None:
    held_out, training, synthetic = discs(60, 1), discs(120, 2), discs(80, 3)
    results = compare(held_out, training, synthetic, settings=FAST, out=tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["context"]["images"] == 60 and results["context"]["training_searched"] == 120
    assert not results["refused"]
    for name, shape in (("real", (24, 1, 16, 16)), ("synthetic", (24, 1, 16, 16)), ("neighbours", (3, 2, 1, 16, 16))):
        picture = np.load(tmp_path / "pictures" / f"{name}.npy", allow_pickle=False)
        assert picture.shape == shape and picture.dtype == np.uint8
    assert sum(results["histogram"]["real"]) == pytest.approx(1, abs=1e-3)
    assert not [path for path in tmp_path.rglob(".*")]


def test_each_fault_moves_its_metric(tmp_path: Path) -> None:
    held_out, training = discs(80, 1), discs(100, 2)

    def measure(synthetic: NDArray[np.float32]) -> dict[str, dict[str, float]]:
        return values(compare(held_out, training, synthetic, settings=FAST, out=tmp_path))

    alike, noisy = measure(discs(80, 3)), measure(discs(80, 3, noise=0.3))
    collapsed, copied = measure(np.repeat(discs(4, 3), 20, axis=0)), measure(training[:80])
    assert alike["frechet_distance"]["low"] < alike["frechet_distance"]["floor_high"]
    assert noisy["frechet_distance"]["low"] > alike["frechet_distance"]["high"]
    assert noisy["precision"]["value"] < 0.5 * alike["precision"]["value"]
    assert collapsed["recall"]["value"] < 0.3 * alike["recall"]["value"]
    assert collapsed["coverage"]["value"] < 0.3 * alike["coverage"]["value"]
    assert copied["near_copies_pixels"]["value"] == 1 and copied["near_copies_features"]["value"] == 1
    assert alike["near_copies_pixels"]["low"] <= alike["near_copies_pixels"]["floor_high"]
    assert noisy["intensity_distance"]["value"] > 2 * alike["intensity_distance"]["value"]


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    results = compare(discs(35, 1), discs(120, 2), discs(80, 3), settings=FAST)
    refused = {one["name"]: one["reason"] for one in results["refused"]}
    assert "At least 50" in refused["frechet_distance"] and "35" in refused["frechet_distance"]
    assert "near_copies_features" in values(results) and "frechet_distance" not in values(results)


def test_few_patients_are_told() -> None:
    results = compare(Source(images=discs(60, 1), patients=np.arange(60) // 10), discs(120, 2), discs(60, 3),
                      settings=FAST)
    assert "Only 6 held-out patients" in results["context"]["warnings"][0]
    none = compare(discs(6, 1), discs(20, 2), discs(6, 3), settings=FAST)
    assert not none["measurements"] and not none["context"]["warnings"], "no intervals that could be wide"


def test_real_pictures_can_be_kept_out(tmp_path: Path) -> None:
    compare(discs(60, 1), discs(60, 2), discs(60, 3), settings=FAST, out=tmp_path)
    compare(discs(60, 1), discs(60, 2), discs(60, 3), out=tmp_path,
                    settings=Settings(repetitions=10, real_pictures=False))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["synthetic.npy"]


def test_without_real_pictures_nothing_of_them_is_kept_for_the_next_time_either(tmp_path: Path) -> None:
    compare(discs(60, 1), discs(60, 2), discs(60, 3), settings=FAST, out=tmp_path)
    kept = [np.load(path) for path in (tmp_path / "features").glob("*.npz")]
    assert any(np.array_equal(one["thumbnails"], discs(60, 1).reshape(60, -1)) for one in kept if "thumbnails" in one)
    (tmp_path / "features" / "mine.npz").touch()
    temporary_of(next((tmp_path / "features").glob("*.npz"))).touch()  # of a process that was killed while it wrote
    compare(discs(60, 1), discs(60, 2), discs(60, 3), out=tmp_path,
                    settings=Settings(repetitions=10, real_pictures=False))
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["mine.npz"]


def test_what_images_were_made_from_is_measured_as_if_it_were_the_result() -> None:
    held_out, training, before = discs(50, 1), discs(50, 2), discs(50, 4, noise=0.3)
    alone = compare(held_out, training, before, settings=FAST, copies=False)["measurements"]
    results = compare(held_out, training, discs(50, 3), settings=FAST, before=before)
    assert results["before"] == alone
    distance = {one["name"]: one["value"] for one in results["before"]}["frechet_distance"]
    assert distance > values(results)["frechet_distance"]["value"]


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"held-out real images have \(1, 16, 16\), synthetic \(1, 16, 8\)"):
        compare(discs(60, 1), discs(60, 2), discs(60, 3)[..., :8], settings=FAST)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="0 held-out"):
        compare(discs(0, 1), discs(60, 2), discs(60, 3), settings=FAST)


def write_pictures(folder: Path, images: NDArray[np.float32]) -> Path:
    (folder / "images").mkdir(parents=True)
    lines = ["file,index,seed,label"]
    for index, image in enumerate(images):
        pixels = np.rint((image + 1) * 127.5).astype(np.uint8)
        path = folder / "images" / f"{index:06d}.png"
        write(Image(pixels=pixels), path, provenance=Provenance(model="test", weights="", seed=0, index=index))
        lines.append(f"images/{path.name},{index},0,")
    (folder / "samples.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_of_files_gives_the_numbers_of_its_arrays(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared, synthetic = Prepared(make_prepared(150)), discs(50, 3)
    stored = np.rint((synthetic + 1) * 127.5).astype(np.float32) / np.float32(127.5) - 1
    folder = write_pictures(tmp_path / "made", synthetic)
    from_files = evaluate(prepared.folder, folder, settings=FAST)
    from_arrays = evaluate_prepared(prepared, stored, settings=FAST)
    for one, other in zip(from_files["measurements"], from_arrays["measurements"], strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-3, abs=1e-3), one["name"]
    assert from_files["context"]["data_hash"] == "data"


def test_synthetic_images_that_are_held_out_ones_are_refused(tmp_path: Path) -> None:
    real = discs(60, 1)
    with pytest.raises(DataError, match="12 of 60 synthetic images are, pixel for pixel, among the real images"):
        compare(real, discs(60, 2), np.concatenate([real[:12], discs(48, 3)]), settings=FAST)
    folder = write_pictures(tmp_path / "real", discs(120, 4))
    with pytest.raises(DataError, match="Either they are not synthetic"):
        evaluate(folder / "images", folder, settings=FAST)


def test_real_images_of_another_size_are_refused_naming_both(tmp_path: Path) -> None:
    real, made = write_pictures(tmp_path / "real", discs(60, 1)), np.pad(discs(60, 2), ((0, 0), (0, 0), (4, 4), (4, 4)))
    larger = write_pictures(tmp_path / "made", made)
    with pytest.raises(DataError, match=r"have 16 x 16 pixels, the synthetic ones in .*made 24 x 24"):
        evaluate(real / "images", larger, settings=replace(FAST, shrink=True))
    with pytest.raises(DataError, match=r"have 24 x 24 pixels, the .*real 16 x 16.*prepare.size=\[16, 16"):
        evaluate(larger / "images", real, settings=FAST)


def test_larger_real_images_are_brought_down_on_request_and_that_is_said(tmp_path: Path) -> None:
    real = write_pictures(tmp_path / "real", np.pad(discs(60, 1), ((0, 0), (0, 0), (4, 4), (4, 4))))
    made = write_pictures(tmp_path / "made", discs(60, 2))
    found = evaluate(real / "images", made, settings=replace(FAST, shrink=True))
    assert ["(24 x 24 pixels) were brought to the size of the synthetic ones, 16 x 16" in text
            for text in found["context"]["warnings"]] == [True, False]
    assert "Of the 60 real images 30 were kept for the floor" in found["context"]["warnings"][1]


def run_of_large_pictures(folder: Path) -> tuple[Path, Path]:
    """Pictures of 24 x 24, and a run that learned from them at 16 x 16 and has made images."""
    scans = write_pictures(folder / "scans", np.pad(discs(200, 1), ((0, 0), (0, 0), (4, 4), (4, 4)))) / "images"
    settings = resolve({"data": {"kind": "folder", "path": str(scans)}, "prepare": {"size": [16, 16], "train": 0.5}},
                       sections=("data", "prepare"))
    run = RunFolder(folder / "run")
    prepared = prepare(settings.section("data"), run.path / "data", settings=settings, workers=1)
    whole = resolve(sections=TRAINING).document() | preparation_of(settings)
    run.begin(yaml.safe_dump(whole), prepared.manifest, {})
    write_pictures(run.path / "synthetic", discs(60, 3))
    return scans, run.path


def test_the_folder_that_a_run_learned_from_stands_for_its_prepared_data(tmp_path: Path) -> None:
    scans, run = run_of_large_pictures(tmp_path)
    found, known = evaluate(scans, run, settings=FAST), evaluate(run, run, settings=FAST)
    assert found["measurements"] == known["measurements"]
    assert "only patients that it held out" in found["context"]["warnings"][0]
    shutil.rmtree(run / "data")
    with pytest.raises(DataError, match=r"are those that .*run learned from, and .*data is not there"):
        evaluate(scans, run, settings=FAST)


def test_other_real_images_are_prepared_as_those_of_the_run(tmp_path: Path) -> None:
    scans, run = run_of_large_pictures(tmp_path)
    others = write_pictures(tmp_path / "others", np.pad(discs(100, 5), ((0, 0), (0, 0), (4, 4), (4, 4)))) / "images"
    found = evaluate(others, run, settings=FAST)
    assert "prepared as those that the run learned from (16 x 16 pixels)" in found["context"]["warnings"][0]
    for scan in sorted(scans.iterdir())[:10]:
        shutil.copy(scan, others / f"again_{scan.name}")
    with pytest.raises(DataError, match=r"of 110 real images .* among the training images of .*run"):
        evaluate(others, run, settings=FAST)


def test_values_far_beyond_the_real_range_are_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    folder = write_pictures(tmp_path / "made", discs(60, 3))
    for path in sorted((folder / "images").iterdir()):
        pixels = read(path).pixels.astype(np.uint16) * 200
        write(Image(pixels=pixels), path, provenance=Provenance(model="test", weights="", seed=0, index=0))
    with pytest.raises(DataError, match=r"made holds values from .* the real images are on a scale from 0 to 255"):
        evaluate(make_prepared(60), folder, settings=FAST)


def test_a_run_folder_stands_for_its_prepared_data(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    make_prepared(150)
    results = evaluate(tmp_path, write_pictures(tmp_path / "made", discs(50, 3)), settings=FAST)
    assert results["context"]["images"] == 50


def test_a_run_before_images_of_somebody_else_may_be_the_wrong_order(
    tmp_path: Path, make_prepared: Callable[..., Path], capsys: pytest.CaptureFixture[str],
) -> None:
    make_prepared(150)
    (tmp_path / "synthetic").mkdir()
    folder = write_pictures(tmp_path / "pictures", discs(50, 4))
    evaluate(tmp_path, folder, settings=FAST)  # radsynth made them
    (folder / "samples.csv").unlink()
    evaluate(tmp_path / "data", folder, settings=FAST)
    assert "the order" not in capsys.readouterr().err
    evaluate(tmp_path, folder, settings=FAST)
    assert f"the order is 'radsynth evaluate {folder} {tmp_path}'" in capsys.readouterr().err


def test_images_of_another_size_are_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared = make_prepared(60, size=(24, 24))
    with pytest.raises(DataError, match=r"000000\.png has the size"):
        evaluate(prepared, write_pictures(tmp_path / "made", discs(4, 3)))


def test_any_folder_of_images_can_be_the_real_side(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for index, image in enumerate(discs(130, 1)):
        pixels = np.rint((image[0] + 1) * 127.5).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / "scans" / f"{index}.png")
    results = evaluate(tmp_path / "scans", write_pictures(tmp_path / "made", discs(60, 3)), settings=FAST)
    found = values(results)
    assert found["frechet_distance"]["low"] < found["frechet_distance"]["floor_high"]
    assert {one["name"] for one in results["refused"]} >= {"copies", "near_copies_pixels"} and not results["neighbours"]


def test_grey_images_are_compared_however_they_are_stored(tmp_path: Path) -> None:
    for name, images in (("real", discs(130, 1)), ("made", discs(60, 3))):
        for mode in ("L", "RGB"):
            (tmp_path / mode / name).mkdir(parents=True)
            for index, image in enumerate(images):
                picture = Pillow.fromarray(np.rint((image[0] + 1) * 127.5).astype(np.uint8)).convert(mode)
                picture.save(tmp_path / mode / name / f"{index:03d}.png")
    found = [values(evaluate(tmp_path / real / "real", tmp_path / made / "made", settings=FAST))["frechet_distance"]
             for real, made in (("L", "RGB"), ("RGB", "L"))]
    assert found[0] == found[1]
    for number in range(3):  # real colour is no grey
        Pillow.fromarray(np.random.default_rng(number).integers(0, 255, (*discs(1, 1).shape[2:], 3), dtype=np.uint8)
                         ).save(tmp_path / "RGB" / "made" / f"{number:03d}.png")
    with pytest.raises(DataError, match=r"channels red, green, blue, the real images have grey"):
        evaluate(tmp_path / "L" / "real", tmp_path / "RGB" / "made", settings=FAST)


def test_an_npz_of_generate_is_read(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    (tmp_path / "made").mkdir()
    stored = np.rint((discs(50, 3)[:, 0] + 1) * 127.5).astype(np.uint8)
    np.savez_compressed(tmp_path / "made" / "synthetic.npz", train_images=stored, train_labels=np.zeros((50, 1)))
    assert evaluate(make_prepared(150), tmp_path / "made", settings=FAST)["context"]["images"] == 50


def test_looking_twice_extracts_once_and_damaged_entries_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = discs(60, 1), discs(60, 2), discs(60, 3)
    first = compare(*sides, settings=FAST, out=tmp_path)
    entries = sorted((tmp_path / "features").glob("*.npz"))
    assert len(entries) >= 3
    with monkeypatch.context() as patch:
        for name in ("features", "thumbnails", "histograms"):
            patch.setattr(_features, name, lambda pixels: pytest.fail("extracted again"))
        patch.setattr(radiomics, "describe", lambda pixels: pytest.fail("described again"))
        again = compare(*sides, settings=FAST, out=tmp_path)
    assert again["measurements"] == first["measurements"]
    for number, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        if number % 2:
            content[len(content) // 2] ^= 0x10  # a flipped bit
        else:
            content = content[: len(content) // 3]
        entry.write_bytes(content)
    assert compare(*sides, settings=FAST, out=tmp_path)["measurements"] == first["measurements"]
    changed = sides[2].copy()
    changed[0, 0, 0, 0] += 0.5
    other = compare(*sides[:2], changed, settings=FAST, out=tmp_path)
    assert other["measurements"] != first["measurements"]


def test_overlap_of_training_and_evaluation_is_refused() -> None:
    held_out, training, synthetic = discs(60, 1), discs(60, 2), discs(60, 3)
    with pytest.raises(DataError, match="3 patients are both"):
        compare(Source(images=held_out, patients=np.arange(60)), Source(images=training, patients=np.arange(57, 117)),
                synthetic, settings=FAST)
    training[:2] = held_out[5:7]
    with pytest.raises(DataError, match=r"2 of 60 real images.*first: number 5"):
        compare(held_out, training, synthetic, settings=FAST)
    held_out[5:7] = training[:2] = -1  # black images show nobody
    compare(held_out, training, synthetic, settings=FAST)


def test_images_of_the_runs_training_are_no_evaluation(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    """The real folder is not the run's, yet it holds what the run was trained on."""
    run = make_prepared(60, name="run/data").parent
    write_pictures(run / "synthetic", discs(50, 3))
    other = make_prepared(150, name="other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"data_hash": "another"}))
    table = (other / "records.csv").read_text()
    swapped = table.replace("train,", "-,").replace("test,", "train,").replace("-,", "test,")
    (other / "records.csv").write_text(swapped)
    with pytest.raises(DataError, match=r"among the training images of .*run"):
        evaluate(other, run / "synthetic", settings=FAST)


def test_classes_are_measured_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [np.arange(count) % 3 // 2 for count in (155, 156, 158)]
    synthetic = discs(158, 3)
    synthetic[labels[2] == 1] += np.float32(0.3)
    real = (Source(images=discs(155, 1), labels=labels[0],
                   patients=np.where(np.arange(155) % 3 == 2, 0, np.arange(155) + 1)),
            Source(images=discs(156, 2), labels=labels[1]))
    more: dict[str, Any] = {"scale": Scale(labels=("most", "few")), "settings": FAST, "out": tmp_path}
    results = compare(*real, Source(images=synthetic, labels=labels[2]), **more)
    found = {label: {one["name"]: one for one in part["measurements"]} for label, part in results["classes"].items()}
    assert results["classes"]["most"]["images"] == results["classes"]["most"]["held_out_patients"] > 50
    assert results["classes"]["few"]["images"] > results["classes"]["few"]["held_out_patients"] == 1
    assert found["few"]["frechet_distance"]["excess_low"] > 0 >= found["most"]["frechet_distance"]["excess_low"]
    rare = Source(images=synthetic, labels=np.where(np.arange(158) < 20, 1, 0))
    both = compare(*real, rare, **more)
    few = both["classes"]["few"]
    assert not few["measurements"] and "at least 50" in few["refused"][0]["reason"]
    assert compare(*(one.images for one in (*real, rare)), settings=FAST, out=tmp_path)["classes"] == {}
    for module in ("measuring", "document"):
        monkeypatch.setattr(f"radsynth.verbs._evaluating.{module}.MOST_CLASSES", 1)
    most = compare(*real, rare, **more)
    told = "Of 2 classes the 1 with the most held-out images were measured by themselves."
    assert list(most["classes"]) == ["most"] and told in most["context"]["warnings"]
    assert told not in both["context"]["warnings"]


def test_classes_come_from_samples_csv(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared = make_prepared(400, labels=("small", "large"))
    folder = write_pictures(tmp_path / "made", discs(140, 3))
    table = folder / "samples.csv"
    lines = table.read_text().splitlines()
    labelled = [line + ("small", "large")[k % 2] for k, line in enumerate(lines[1:])]
    table.write_text("\n".join([lines[0], *labelled]) + "\n")
    results = evaluate(prepared, folder, settings=FAST)
    assert results["classes"]["small"]["images"] >= 50 and results["classes"]["large"]["measurements"]


def test_other_ranges_and_units_are_refused_naming_both(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    hounsfield = make_prepared(60, units="HU", modality="CT", name="ct")
    manifest = json.loads((hounsfield / "manifest.json").read_text())
    manifest["intensity"] |= {"low": 2000.0, "high": 3000.0, "method": "window"}
    (hounsfield / "manifest.json").write_text(json.dumps(manifest))
    folder = write_pictures(tmp_path / "made", discs(50, 3))
    with pytest.raises(DataError, match=r"from [0-9]+ to 255, the real images are on a scale from 2000 to 3000 \(HU\)"):
        evaluate(hounsfield, folder)
    (tmp_path / "units").mkdir()
    image = Image(pixels=np.full((1, 16, 16), 30, np.int16), modality="CT", units="HU", bits=12)
    write(image, tmp_path / "units" / "0.dcm", provenance=Provenance(model="test", weights="", seed=0, index=0))
    with pytest.raises(DataError, match=r"is in HU, the real images are in their files' own numbers"):
        evaluate(make_prepared(60), tmp_path / "units")


def test_intervals_over_one_patients_images_are_not_said_to_be_over_patients() -> None:
    training = Source(images=discs(20, 2), patients=np.arange(100, 120))
    for owners, said in ((np.zeros(20, np.int64), "half-samples of one patient's images"),
                         (np.arange(20), "half-samples of patients")):
        found = compare(Source(images=discs(20, 1), patients=owners), training, discs(20, 3), copies=False,
                        settings=Settings(repetitions=10, pairs=0))
        assert said in found["context"]["interval"]
