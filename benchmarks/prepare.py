"""How fast is `prepare`, beside MONAI's LoadImage and dicom2nifti, and what memory does it take?

python benchmarks/prepare.py [--series 8] [--slices 10000] [--rounds 3] [--syntax plain] [--inputs FOLDER] prints tables
and writes build/prepare.json.

Speed: the same DICOM files for all, slices to the same output spacing (half the resolution), on one core and on two. CT
of 512x512 and MR of 256x256, plain and as lossless JPEG 2000. radsynth: `prepare`, from the folder to arrays with
manifest and hashes. MONAI: LoadImage (PydicomReader) and Spacing (bilinear), saved by numpy. dicom2nifti:
dicom_series_to_nifti and its own resampling (linear), saved as NIfTI. One process a core, series shared out.
The clock runs from the call to its return, in a fresh process that has imported what it needs by a first call with one
small plain series; workers and decoding children start while it runs. What comes before is the start-up, told apart.
Processor time is that of all processes: other programs change it less than they change the clock.
Memory: 10,000 slices of NIfTI, and the brain cohort.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread a process, whatever the shell says: cores are what is compared, and torch's threads do not survive a fork.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import nibabel
import numpy as np
from _told import told

SIDE, DEPTH = 128, 100
KINDS = {"CT": (512, 80, 0.7, 2.0), "MR": (256, 80, 0.9, 1.8)}
"""Modality -> pixels a side, slices a series, mm a pixel, mm a slice."""

SYNTAXES = {"plain": "", "JPEG 2000": "1.2.840.10008.1.2.4.90"}
FACTOR = 2
"""Output pixels are so many times as wide as the input's."""


def write_series(folder: Path, modality: str, syntax: str, count: int, most: int = 1000) -> None:
    """Series of smooth bodies with noise, with the header that radsynth gives a CT or MR slice."""
    import pydicom
    from scipy.ndimage import gaussian_filter

    from radsynth.image import Image
    from radsynth.io import Provenance, write

    side, depth, pixel, step = KINDS[modality]
    depth = min(depth, most)
    for number in range(count):
        rng = np.random.default_rng(number)
        body = gaussian_filter(rng.normal(size=(depth // 4, side // 8, side // 8)), 2).repeat(4, 0)
        body = body.repeat(8, 1).repeat(8, 2) / body.std() * 300
        pixels = (body + rng.normal(0, 15, (depth, side, side))).clip(-1000, 2000)
        pixels = pixels if modality == "CT" else pixels - pixels.min()
        image = Image(
            pixels=np.rint(pixels).astype(np.int16)[None],
            modality=modality,
            units="HU" if modality == "CT" else "stored",
            bits=12,
            spacing=(step, pixel, pixel),
            affine=np.array([[pixel, 0, 0, 0], [0, pixel, 0, 0], [0, 0, step, 0], [0, 0, 0, 1.0]]),
        )
        provenance = Provenance(model="benchmark", weights="", seed=number, index=number)
        for file in write(image, folder / f"{number:03d}", provenance=provenance, format="dicom"):
            dataset = pydicom.dcmread(file)
            if modality == "MR":
                dataset.RepetitionTime, dataset.EchoTime = 2000, 30  # dicom2nifti reads no MR without them
            if syntax:
                dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(file)


def by_radsynth(folder: Path, out: Path, modality: str, cores: int) -> int:
    from radsynth.settings import resolve
    from radsynth.verbs.prepare import prepare

    side, _, pixel, _ = KINDS[modality]
    size = [side // FACTOR, side // FACTOR]
    words = ["data.kind=folder", f"data.path={folder}", "data.minimum_foreground=0", f"prepare.size={size}"]
    settings = resolve(overrides=words, sections=["data", "prepare"])
    made = prepare(settings.section("data"), out / "arrays", settings=settings, workers=cores)
    assert made.spec.spacing is not None and abs(made.spec.spacing[0] - pixel * FACTOR) < 0.01, made.spec
    return len(made.rows)


def by_monai(folder: Path, out: Path, modality: str, cores: int) -> int:
    return share(one_by_monai, folder, out, modality, cores)


def one_by_monai(series: Path, out: Path, modality: str) -> int:
    from monai.transforms import Compose, LoadImage, Spacing

    _, _, pixel, step = KINDS[modality]
    spacing = Spacing(pixdim=(pixel * FACTOR, pixel * FACTOR, step), mode="bilinear")
    load = Compose([LoadImage(reader="PydicomReader", image_only=True, ensure_channel_first=True), spacing])
    volume = np.rint(load(series).numpy()).astype(np.int16)
    np.save(out / f"{series.name}.npy", volume)
    return int(volume.shape[-1])


def by_dicom2nifti(folder: Path, out: Path, modality: str, cores: int) -> int:
    return share(one_by_dicom2nifti, folder, out, modality, cores)


def one_by_dicom2nifti(series: Path, out: Path, modality: str) -> int:
    import dicom2nifti
    from dicom2nifti import resample, settings

    _, _, pixel, step = KINDS[modality]
    settings.set_resample_spline_interpolation_order(1)
    volume = dicom2nifti.dicom_series_to_nifti(series, None, reorient_nifti=False)["NII"]
    volume = resample.resample_nifti_images([volume], voxel_size=(pixel * FACTOR, pixel * FACTOR, step))
    volume.to_filename(out / f"{series.name}.nii")
    return int(volume.shape[-1])


def share(call: Callable[[Path, Path, str], int], folder: Path, out: Path, modality: str, cores: int) -> int:
    """One process a core, as in radsynth; a series is one job."""
    jobs = [(series, out, modality) for series in sorted(folder.iterdir())]
    if cores == 1:
        return sum(call(*job) for job in jobs)
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        return sum(pool.starmap(call, jobs, chunksize=1))


PEERS = {"radsynth prepare": by_radsynth, "MONAI LoadImage + Spacing": by_monai, "dicom2nifti": by_dicom2nifti}


def race(name: str, folder: Path, small: Path, modality: str, cores: int, started: float, queue: Any) -> None:
    """In a process of its own with so many cores: slices, seconds, processor seconds, and seconds before the clock.

    small: the folder of a small series for the first call, which imports what is needed.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    adopt_orphans()
    with tempfile.TemporaryDirectory() as out:
        for place in ("first", "second"):
            (Path(out) / place).mkdir()
        try:
            PEERS[name](small, Path(out) / "first", modality, 1)
            start, used = time.time(), processor_seconds()
            slices = PEERS[name](folder, Path(out) / "second", modality, cores)
        except Exception as error:  # a peer that cannot read these files has no speed
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            start, used, slices = time.time(), 0.0, 0
        seconds = time.time() - start
        end_children()
        queue.put((slices, seconds, processor_seconds() - used, start - started))


def adopt_orphans() -> None:
    """Decoding children whose workers have ended become this process's, so that their time is counted (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_children() -> None:
    """End this process's own decoding child, and wait for all others."""
    from radsynth.io import _decoding

    _decoding._close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def processor_seconds() -> float:
    """Of this process and of those children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def in_process(call: Callable[..., None], *arguments: Any) -> Any:
    """What `call` puts into its queue, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=call, args=(*arguments, queue))
    process.start()
    found = queue.get(timeout=1800)
    process.join()
    return found


def speeds(inputs: Path, series: int, rounds: int, syntaxes: list[str]) -> list[dict[str, Any]]:
    """The best of several rounds of each, in turn; the page cache is warm for all."""
    rows = []
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for modality, syntax in ((modality, syntax) for modality in KINDS for syntax in syntaxes):
        folder, small = inputs / f"{modality} {syntax} {series}", inputs / f"{modality} small"
        for place, code, count, depth in ((folder, SYNTAXES[syntax], series, 1000), (small, "", 1, 8)):
            if not place.exists():
                part = place.with_name(place.name + ".part")
                write_series(part, modality, code, count, depth)
                part.rename(place)
        for cores in (1, 2)[:most]:
            best, worked = dict.fromkeys(PEERS, 0.0), dict.fromkeys(PEERS, 0.0)
            first = dict.fromkeys(PEERS, float("inf"))
            for _ in range(rounds):
                for name in PEERS:
                    slices, seconds, used, before = in_process(race, name, folder, small, modality, cores, time.time())
                    assert slices in (0, series * KINDS[modality][1]), (name, slices)
                    best[name] = max(best[name], slices / seconds)
                    worked[name] = max(worked[name], slices / used)
                    first[name] = min(first[name], before)
            rows.append({"data": f"{modality} {KINDS[modality][0]}, {syntax}", "cores": cores, **best,
                         "processor": worked, "start": first})
            print(f"| {rows[-1]['data']} | {cores} | " + " | ".join(
                f"{worked[name]:.0f} / {best[name]:.0f} ({first[name]:.1f})" for name in PEERS) + " |", flush=True)
    return rows


def write_volumes(folder: Path, slices: int) -> None:
    """Volumes of 100 slices of 128x128, 16 bits: a ball of its own brightness and noise in each."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (SIDE, SIDE, DEPTH)), indexing="ij")
    ball = (np.sqrt(sum(axis**2 for axis in axes)) < 0.8).astype(np.float32)
    for number in range(slices // DEPTH):
        pixels = ball * rng.uniform(300, 2000) + rng.normal(0, 20, ball.shape).astype(np.float32)
        image = nibabel.Nifti1Image(pixels.astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
        nibabel.save(image, folder / f"{number:04d}.nii")


def measure(overrides: list[str], workers: int, queue: Any) -> None:
    """In a process of its own, so that peaks do not add up."""
    from radsynth.settings import resolve
    from radsynth.verbs.prepare import prepare

    settings = resolve(overrides=overrides, sections=["data", "prepare"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        prepared = prepare(settings.section("data"), Path(folder) / "out", settings=settings, workers=workers)
        seconds = time.perf_counter() - start
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    queue.put({"images": len(prepared.rows), "seconds": seconds, "main_mb": peaks[0], "worker_mb": peaks[1]})


def memory(slices: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), slices)
        nifti = ["data.kind=folder", f"data.path={folder}", "prepare.size=[64,64]"]
        for name, overrides in (("NIfTI slices, 128 to 64 px", nifti), ("brain cohort, 64 px", ["data.kind=brain"])):
            for workers in (1, 2):
                found = in_process(measure, overrides, workers)
                rows.append({"data": name, "workers": workers, **found})
                worker = f"{found['worker_mb']:.0f}" if workers > 1 else ""
                print(f"| {name} | {workers} | {found['images']} | {found['images'] / found['seconds']:.0f} | "
                      f"{found['main_mb']:.0f} | {worker} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=8, help="DICOM series of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=10_000, help="NIfTI slices for the peak of memory; 0: leave out")
    parser.add_argument("--syntax", choices=[*SYNTAXES], action="append", help="plain, JPEG 2000 or (default) both")
    parser.add_argument("--inputs", type=Path, help="folder for the DICOM files, used again where they are there")
    options = parser.parse_args()
    print("| DICOM, slices a processor second / slices/s (start-up, s) | cores | " + " | ".join(PEERS) + " |")
    print("| --- | --- |" + " --- |" * len(PEERS))
    with tempfile.TemporaryDirectory() as scratch:
        inputs = options.inputs or Path(scratch)
        result = {"speed": speeds(inputs, options.series, options.rounds, options.syntax or [*SYNTAXES])}
    if options.slices:
        print("\n| data | workers | images | images/s | peak of the main process, MB | peak of a worker, MB |")
        print("| --- | --- | --- | --- | --- | --- |")
        result["memory"] = memory(options.slices)
    Path("build").mkdir(exist_ok=True)
    Path("build/prepare.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    told(main)
