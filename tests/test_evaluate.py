from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.image import Image
from radsynth.io import Provenance, write
from radsynth.verbs.evaluate import Settings, evaluate, evaluate_arrays, evaluate_prepared

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
    results = evaluate_arrays(held_out, training, synthetic, settings=FAST, out=tmp_path)
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
        return values(evaluate_arrays(held_out, training, synthetic, settings=FAST, out=tmp_path))

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
    results = evaluate_arrays(discs(35, 1), discs(120, 2), discs(80, 3), settings=FAST)
    refused = {one["name"]: one["reason"] for one in results["refused"]}
    assert "at least 50" in refused["frechet_distance"] and "35" in refused["frechet_distance"]
    assert "near_copies_features" in values(results) and "frechet_distance" not in values(results)


def test_few_patients_are_told() -> None:
    results = evaluate_arrays(discs(60, 1), discs(120, 2), discs(60, 3), settings=FAST,
                              held_out_patients=np.arange(60) // 10)
    assert "Only 6 held-out patients" in results["context"]["warnings"][0]


def test_real_pictures_can_be_kept_out(tmp_path: Path) -> None:
    evaluate_arrays(discs(60, 1), discs(60, 2), discs(60, 3), settings=FAST, out=tmp_path)
    evaluate_arrays(discs(60, 1), discs(60, 2), discs(60, 3), out=tmp_path,
                    settings=Settings(repetitions=10, real_pictures=False))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["synthetic.npy"]


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match="one shape"):
        evaluate_arrays(discs(60, 1), discs(60, 2), discs(60, 3)[..., :8], settings=FAST)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="0 held-out"):
        evaluate_arrays(discs(0, 1), discs(60, 2), discs(60, 3), settings=FAST)


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


def test_a_run_folder_stands_for_its_prepared_data(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    make_prepared(150)
    results = evaluate(tmp_path, write_pictures(tmp_path / "made", discs(50, 3)), settings=FAST)
    assert results["context"]["images"] == 50


def test_a_missing_or_foreign_file_is_named(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared = make_prepared(60)
    folder = write_pictures(tmp_path / "made", discs(4, 3))
    (folder / "images" / "000002.png").unlink()
    with pytest.raises(FolderError, match=r"1 files.*000002\.png"):
        evaluate(prepared, folder)
    table = folder / "samples.csv"
    table.write_text("file,index,seed,label\n../../etc/passwd,0,0,\n")
    with pytest.raises(FolderError, match="passwd"):
        evaluate(prepared, folder)
    with pytest.raises(FolderError, match="not a folder"):
        evaluate(prepared, tmp_path / "nowhere")


def test_images_of_another_size_are_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared = make_prepared(60, size=(24, 24))
    with pytest.raises(DataError, match=r"000000\.png has the shape"):
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


def test_an_npz_of_generate_is_read(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    (tmp_path / "made").mkdir()
    stored = np.rint((discs(50, 3)[:, 0] + 1) * 127.5).astype(np.uint8)
    np.savez_compressed(tmp_path / "made" / "synthetic.npz", train_images=stored, train_labels=np.zeros((50, 1)))
    assert evaluate(make_prepared(150), tmp_path / "made", settings=FAST)["context"]["images"] == 50
