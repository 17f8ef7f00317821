"""How long `radsynth inspect` takes on 10,000 PNG files, as a whole process. The bar is 20 s.

Usage: python benchmarks/inspect_many.py [--files 10000]. Prints one table and writes build/inspect_many.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _told import told
from PIL import Image

from radsynth.device import here


def write_files(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(count):
        place = folder / f"class{k % 4}"
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(place / f"{k:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch), options.files)
        times = []
        for _ in range(3):
            start = time.monotonic()
            subprocess.run([sys.executable, "-m", "radsynth", "inspect", scratch], check=True, capture_output=True)
            times.append(time.monotonic() - start)
    result = {"device": here().name, "cores": here().cores, "files": options.files,
              "seconds": [round(t, 1) for t in sorted(times)]}
    for name, value in result.items():
        print(f"{name:10} {value}")
    Path("build").mkdir(exist_ok=True)
    Path("build/inspect_many.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    told(main)
