"""Translation and segmentation after so many minutes, beside methods that learn no network and their own plain forms.

  translate   T1 to FLAIR with pairs, against regression of each pixel's intensity; segmenters, learned in a fifth of
              the time each, say how well lesions are found in results, in the truth and in T1
  missing     T1, T2 to FLAIR, a third of the given channels missing in training; measured without T1, without T2
              and with both
  cycle, cut  T1 to FLAIR learned without pairs (no patient has both), measured against the truth of other patients,
              beside the same image, histogram matching without pairs, and a regression that has pairs
  segment, segment_plain   with the adversary and without, against multi-Otsu and k-means
  segment_hippocampus, segment_hippocampus_plain   the same on slices of --hippocampus FOLDER (Decathlon, task 4)
  segment_hearts, segment_hearts_plain   the same on slices of --hearts FILE.npz (ACDC; 25 of 70 patients to measure on)
  segment_few, segment_few_plain, segment_hippocampus_few, ..., segment_hearts_few, ...   the same where only --patients
              training patients have masks (without it 4 of the cohort, 6 of the others), others with each --seed
  translate_brains   T1 to FLAIR of --brains FILE.npz (three patients: two to learn from, one to measure on)
  picture     no training: translations.png shows the newest runs of translate, cycle and cut side by side

All others are of the embedded virtual cohort, 64 x 64. 95 % intervals over patients. Usage:
python benchmarks/image_to_image.py [--minutes 5 | --images 50000] [--jobs translate,cycle,...] [--hippocampus FOLDER]
[--hearts FILE.npz] [--brains FILE.npz] [--patients 20] [--seed 0] [section.key=value ...]. Prints rows and adds them to
build/image_to_image.json, where those of a repeated command take the place of its earlier ones; pictures are in
build/image_to_image/, as reports where the run itself has pairs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from _data import prepared as prepared_arrays
from _data import with_few_masks
from _table import method_rows, print_row
from _told import machine, told

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.metrics._paired import NUMBERS
from radsynth.recipes import recipe
from radsynth.settings import resolve
from radsynth.verbs._applying.anatomy import learn_anatomy
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._grid import save_grid
from radsynth.verbs._pairs.baselines import _regression
from radsynth.verbs._pairs.found import OWN, Found, number_of
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs._pairs.segmentation import evaluate_segmentation
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import train

FOLDER = Path("build/image_to_image")
SMALL_WARPS = "task.deform=0.03"
SEGMENTER = 0.2
"""Share of the budget in which each segmenter learns, on top of it: the default of a whole run."""
PATIENTS_WITH_MASKS = {"segment_few": 4, "segment_hippocampus_few": 6, "segment_hearts_few": 6}
COHORT = ("data.kind=brain", "prepare.size=[64,64]", "prepare.validation=0")
JOBS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "translate": (("data.contrasts=[t1,flair]",), ("task.kind=translate",)),
    "missing": (("data.contrasts=[t1,t2,flair]",),
                ("task.kind=translate", "task.outputs=[flair]", "task.missing=0.33")),
    "cycle": (("data.contrasts=[t1,flair]", "data.unpaired=true"),
              ("task.kind=cycle", "task.domains=[t1,flair]")),
    "cut": (("data.contrasts=[t1,flair]", "data.unpaired=true"),
            ("task.kind=cut", "task.domains=[t1,flair]")),
    "segment": ((), ("task.kind=segment", "task.adversarial=0.01")),
    "segment_plain": ((), ("task.kind=segment", "task.adversarial=0")),
    "segment_hippocampus": ((), ("task.kind=segment", "task.adversarial=0.01")),
    "segment_hippocampus_plain": ((), ("task.kind=segment", "task.adversarial=0")),
    "segment_hearts": ((), ("task.kind=segment", "task.adversarial=0.01")),
    "segment_hearts_plain": ((), ("task.kind=segment", "task.adversarial=0")),
    "segment_few": ((), ("task.kind=segment", "task.adversarial=0.01", SMALL_WARPS)),
    "segment_few_plain": ((), ("task.kind=segment", "task.adversarial=0", SMALL_WARPS)),
    "segment_hippocampus_few": ((), ("task.kind=segment", "task.adversarial=0.01", SMALL_WARPS)),
    "segment_hippocampus_few_plain": ((), ("task.kind=segment", "task.adversarial=0", SMALL_WARPS)),
    "segment_hearts_few": ((), ("task.kind=segment", "task.adversarial=0.01", SMALL_WARPS)),
    "segment_hearts_few_plain": ((), ("task.kind=segment", "task.adversarial=0", SMALL_WARPS)),
    "translate_brains": ((), ("task.kind=translate", "task.inputs=[t1]", "task.outputs=[flair]")),
}
"""For each job what is different about the data, and the task."""


def data_of(job: str, options: argparse.Namespace) -> Prepared:
    """The prepared images of a job; made once."""
    more, _ = JOBS[job]
    if job == "translate_brains":
        return _brains(options.brains)
    few = job.removesuffix("_plain")
    if few in PATIENTS_WITH_MASKS:
        patients = options.patients or PATIENTS_WITH_MASKS[few]
        folder = FOLDER / f"{few}_{patients}_{options.seed}"
        return Prepared(folder if folder.exists() else with_few_masks(
            data_of(few.removesuffix("_few"), options), folder, patients, options.seed))
    if job.startswith("segment_hearts"):
        return _hearts(options.hearts)
    if job.startswith("segment_hippocampus"):
        return _prepared("hippocampus", "data.kind=folder", f"data.path={options.hippocampus}", "data.modality=MR",
                         "prepare.size=[48,64]", "prepare.validation=0")
    return _prepared("_".join(["brain", *(text.split("=")[1].strip("[]") for text in more)]), *COHORT, *more)


def _prepared(name: str, *overrides: str) -> Prepared:
    given = resolve(overrides=overrides, sections=("data", "prepare"))
    return prepare(given.section("data"), FOLDER / name, settings=given)


def _brains(file: Path) -> Prepared:
    """Axial slices of three patients at half their resolution, each contrast by its own volume's percentiles."""
    folder = FOLDER / "brains"
    if (folder / "manifest.json").exists():
        return Prepared(folder)
    images, patients = [], []
    with np.load(file) as data:
        for patient in ("patient07", "patient19", "patient26"):
            channels = []
            for contrast in ("T1", "FLAIR"):
                volume = data[f"{patient}_{contrast}"][:, :216].astype(np.float32)
                low, high = np.percentile(volume, (0.5, 99.5))
                small = volume.reshape(91, 2, 108, 2, 50).mean(axis=(1, 3))
                channels.append(np.clip((small - low) / (high - low) * 255, 0, 255).astype(np.uint8))
            images.append(np.moveaxis(np.stack(channels), -1, 0)[..., 1:89, 2:106])
            patients += [patient] * 50
    return Prepared(prepared_arrays(folder, np.concatenate(images[:2]), images[2], patients, channels=("t1", "flair")))


def _hearts(file: Path) -> Prepared:
    """Slices of the heart with masks, those of 25 of 70 patients to measure on."""
    folder = FOLDER / "hearts"
    if (folder / "manifest.json").exists():
        return Prepared(folder)
    with np.load(file) as data:
        images, masks = data["images"][:, None], data["masks"]
        patients = np.array([str(name).partition("_")[0] for name in data["names"]])
    test = np.isin(patients, np.random.default_rng(5).permutation(np.unique(patients))[:25])
    order = np.concatenate([np.flatnonzero(~test), np.flatnonzero(test)])
    prepared_arrays(folder, images[~test], images[test], patients[order].tolist(), masks=masks[order])
    return Prepared(folder)


def rows(job: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one job; a row for each method."""
    data = data_of(job, options)
    budget = f"train.images={options.images}" if options.images else f"train.seconds={60 * options.minutes:g}"
    task = JOBS[job][1][0].removeprefix("task.kind=")
    settings = resolve(document(recipe("unet", task)), {"seed": options.seed},
                       overrides=[*JOBS[job][1], budget, *options.overrides])
    few = f"_{options.patients}" if options.patients else ""
    told = "_" + hashlib.sha256(" ".join(options.overrides).encode()).hexdigest()[:6] if options.overrides else ""
    run = FOLDER / f"run_{job}{few}_{options.images or f'{options.minutes:g}min'}_{options.seed}{told}"
    train(data.folder, run, settings=settings)
    if job == "translate":
        learn_anatomy(run, data, Applier(run).task, settings, SEGMENTER)
    facts = json.loads((run / "generator.json").read_text())
    seen = {"job": job, "run": run.name, "images_seen": facts["images"], "seconds": round(facts["seconds"])}
    if job in ("cycle", "cut"):
        return method_rows(_against_truth(run), **seen)
    if job == "missing":
        return [row for lacking in ("", "t1", "t2") for row in method_rows(_lacking(run, data, lacking), **{
            **seen, "job": f"missing {lacking or 'none'}"})]
    measure = evaluate_segmentation if job.startswith("segment") else evaluate_pairs
    found = measure(run, data, out=run)
    report(run)
    return method_rows(found, **seen)


def _against_truth(run: Path) -> dict[str, Any]:
    """What an unpaired translation makes of T1, against the FLAIR of the same patients, of another cohort."""
    truth = _truth()
    rows, fitted = truth.indices("test"), truth.images(truth.indices("train"))
    images = truth.images(rows)
    given, real = images[:, :1], images[:, 1:]
    applier = Applier(run)
    methods = {OWN: lambda x: applier.network_of(x, "flair"), "the same image": lambda x: x,
               "histogram matching": _matching(fitted[::2, :1], fitted[1::2, 1:]),
               "intensity regression (has pairs)": _regression(fitted[:, :1], fitted[:, 1:])}
    made = {name: np.clip(method(given), -1, 1).astype(np.float32) for name, method in methods.items()}
    return _document(made, real, truth, rows)


def _truth() -> Prepared:
    """T1 and FLAIR of virtual patients that no job learns from."""
    return _prepared("brain_truth", *COHORT, "data.contrasts=[t1,flair]", "data.seed=1", "data.patients=100",
                     "prepare.train=0.4")


def picture(columns: int = 5) -> None:
    """translations.png, a slice drawn at random a column. From above: T1; for each translation that was trained (the
    newest run of it) the FLAIR that it makes and its difference to the truth (white: half of the range); the truth."""
    truth = _truth()
    images = truth.images(np.random.default_rng(0).choice(truth.indices("test"), columns, replace=False))
    shown = [images[:, :1]]
    for job in ("translate", "cycle", "cut"):
        for run in sorted(FOLDER.glob(f"run_{job}_*"), key=lambda path: path.stat().st_mtime)[-1:]:
            made = np.clip(Applier(run).network_of(images[:, :1], "" if job == "translate" else "flair"), -1, 1)
            shown += [made, np.clip(2 * np.abs(made - images[:, 1:]) - 1, -1, 1)]
    save_grid(np.concatenate([*shown, images[:, 1:]]), FOLDER / "translations.png", columns)


def _lacking(run: Path, data: Prepared, lacking: str) -> dict[str, Any]:
    """The run on test patients with one given channel missing, beside a regression from those that are there."""
    applier, names = Applier(run), data.spec.channels
    inputs, rows = applier.task.inputs, data.indices("test")
    images, fitted = data.images(rows), data.images(data.indices("train")[:400])
    there = [names.index(name) for name in inputs if name != lacking]
    given = images[:, [names.index(name) for name in inputs]]
    if lacking:
        given[:, inputs.index(lacking)] = -1
    real = images[:, [names.index("flair")]]
    regress = _regression(fitted[:, there], fitted[:, [names.index("flair")]])
    made = {OWN: applier.network_of(given, ""), "intensity regression": regress(images[:, there])}
    return _document({name: np.clip(results, -1, 1) for name, results in made.items()}, real, data, rows)


def _matching(given: Any, wanted: Any) -> Any:
    """Each value to the one of the same rank among the other domain's, without pairs."""
    ranks = np.linspace(0, 1, 1000)
    here_, there = np.quantile(given, ranks), np.quantile(wanted, ranks)
    return lambda images: np.interp(images, here_, there).astype(np.float32)


def _document(made: dict[str, Any], real: Any, data: Prepared, rows: Any) -> dict[str, Any]:
    """As `evaluate_pairs` gives it."""
    patients = np.unique([data.rows[int(row)].patient for row in rows], return_inverse=True)[1].astype(np.int64)
    found = [Found(name=number.name, title=number.title, better=number.better, meaning=number.meaning,
                   bounds=number.bounds,
                   unit="%" if number.unit == "units" else number.unit, values={
                       name: (100 if number.unit == "units" else 1) * number.measure(results, real)
                       for name, results in made.items()}) for number in NUMBERS]
    return {"pairs": {"images": len(rows), "patients": len(np.unique(patients)),
                      "numbers": [number_of(one, patients, 30, 0) for one in found]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--hearts", type=Path)
    parser.add_argument("--brains", type=Path)
    parser.add_argument("--patients", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(machine())
    kept = FOLDER.parent / "image_to_image.json"
    table: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    for job in options.jobs.split(","):
        if job == "picture":
            picture()
            continue
        if (job.startswith("segment_hippocampus") and not options.hippocampus) or (
                job == "translate_brains" and not options.brains) or (
                job.startswith("segment_hearts") and not options.hearts):
            print(f"{job} is left out: say where its data is")
            continue
        found = rows(job, options)
        for row in found:
            print_row(row)
        table = [row for row in table if row.get("run") != found[0]["run"]] + found
        kept.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
