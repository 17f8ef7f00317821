"""A run folder with everything that a report can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.examples import RESULTS, SPEC


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with everything a report can show."""
    folder = tmp_path / "scans"
    (folder / "pictures").mkdir(parents=True)
    (folder / "previews").mkdir()
    generator = np.random.default_rng(0)
    for name, shape in (("real", (8, 1, 16, 16)), ("synthetic", (8, 1, 16, 16)), ("neighbours", (1, 2, 1, 16, 16))):
        np.save(folder / "pictures" / f"{name}.npy", generator.integers(0, 255, shape, dtype=np.uint8))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "spec.json").write_text(json.dumps(SPEC))
    (folder / "settings.yaml").write_text("train:\n  seconds: 300\n")
    (folder / "versions.json").write_text(json.dumps({"torch": "2.13.0"}))
    plan = [{"setting": "train.seconds", "value": 300, "reason": "The default."}]
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "inspection.json").write_text(json.dumps({"n_images": 150, "n_patients": 75, "modality": "MR",
                                                        "median_size": [16, 16], "labels": {}, "notes": {}}))
    (folder / "data").mkdir()
    (folder / "data" / "rejected.csv").write_text(
        "path,reason,skipped\nward 3/<script>x</script>.png,the file is empty,no\nward 3/notes.txt,a text,yes\n")
    lines: list[dict[str, Any]] = [{"step": i, "images": 100 * i, "seconds": i, "images_per_second": 100.0,
              "discriminator/loss": 1 / i,
              "generator/loss": 0.5} for i in range(1, 5)]
    lines.append({"event": "resumed", "images": 200, "text": "Training went on after 200 images. <script>"})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "im')
    from PIL import Image as Pillow

    for images in (0, 200, 400):
        Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "previews" / f"{images:09d}.png")
    return folder
