"""What all tests share: one thread a process, and real files where this machine has them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Before torch and OpenMP are loaded: tests run side by side, and results must not depend on the number of cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from radsynth.arrays import Prepared
from tests.discs import prepared_discs
from tests.tables import lines, save


def pytest_configure(config: pytest.Config) -> None:
    """A GPU is hidden from all tests but those of `-m gpu`: the others expect a processor's results, bit for bit."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A script's background job ignores Ctrl-C, and so would every command that tests start and stop by it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


REPOSITORY = Path(__file__).resolve().parent.parent
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium, by playwright, for tests marked so; skipped where either is missing."""
    api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real public images: $RADSYNTH_TEST_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("RADSYNTH_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set RADSYNTH_TEST_DATA to a folder of them")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture
def make_prepared(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small prepared folder, see `prepared_discs`."""
    return partial(prepared_discs, tmp_path)


@pytest.fixture
def without_masks() -> Callable[[Path, Iterable[int]], Prepared]:
    """A function that takes the masks of some images of a prepared folder away."""

    def take(folder: Path, rows: Iterable[int]) -> Prepared:
        """A prepared folder whose images `rows` have lost their masks: what is stored there must not count."""
        table = lines(folder / "records.csv")
        masks = np.load(folder / "shards" / "00000.masks.npy")
        for row in rows:
            table[row]["masked"] = "0"
            masks[row] = masks.max()
        np.save(folder / "shards" / "00000.masks.npy", masks)
        save(folder / "records.csv", table)
        document = json.loads((folder / "manifest.json").read_text())
        document["spec"]["partly_masked"] = True
        (folder / "manifest.json").write_text(json.dumps(document))
        return Prepared(folder)

    return take


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder in which little can be written, and a call that lifts the limit: a 1 MB tmpfs, else a limit on files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=16M", str(place)], check=True) and None
        subprocess.run(["umount", str(place)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    yield place, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
