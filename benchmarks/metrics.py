"""Whether the intervals of the metrics hold what they promise, and how fast the metrics are beside others.

Coverage: real images are drawn into three groups that have nothing to do with each other (held out, floor, and one in
place of the synthetic images), again and again. All are real, so the true excess over the floor is zero, and its 95 %
interval should hold zero in at least 93 of 100 repetitions; so should the interval of the floor itself for the kernel
distance, whose floor is zero on average. For images that do differ (every second one is taken from one class alone) the
interval of the value should hold the mean value of all repetitions.

Speed: 10,000 against 10,000 features, each contender in a process of its own, by turns; seconds are medians, memory the
peak that was added to the features. torchmetrics has no precision and recall: scikit-learn stands in.

Usage: python benchmarks/metrics.py DATA.npz [--repetitions 100] [--images 400] [--rounds 3] [--only coverage|speed].
DATA.npz holds images (n, h, w) and labels, as MedNIST's. Prints two tables, writes build/metrics.json and what it keeps
of the images to build/metrics_features/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import resource
import statistics
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.device import here
from radsynth.metrics import Comparison, Sample, modules
from radsynth.metrics._features import NAME, describe, keep

Array = NDArray[np.float32]
COUNT, WIDTH = 10_000, 1280


def pool(path: Path, scratch: Path) -> tuple[dict[str, Sample], NDArray[np.int64]]:
    """Everything that metrics keep of all images, by metric, and the images' classes."""
    with np.load(path) as data:
        images, labels = data["images"], np.ravel(data["labels"]).astype(np.int64)
    order = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1]  # a copy would not be independent
    images = (images[order].astype(np.float32) / 127.5 - 1)[:, None]
    whole = describe(images, np.arange(len(images)), cache=scratch, progress=lambda n: print(f"\r{n}", end=""))
    samples = {}
    for kind, module in modules().items():
        if not hasattr(module, "OWN"):
            samples[kind] = whole
        elif hasattr(module, "describe") and (not hasattr(module, "applies") or module.applies(images.shape[1:])):
            own = keep(module.OWN, {"own": module.describe}, images, cache=scratch)["own"]
            samples[kind] = dataclasses.replace(whole, own=own)
    print()
    return samples, labels[order]


def coverage(samples: dict[str, Sample], labels: NDArray[np.int64], repetitions: int, images: int,
             ) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    alike, floors, values, n = Counter[str](), Counter[str](), {}, len(labels)
    widths: dict[str, list[float]] = {}
    for repetition in range(repetitions):
        rows = generator.permutation(n)
        held_out, floor, other, training = (rows[k * images:(k + 1) * images] for k in range(4))
        from_one_class = other.copy()
        one_class = rows[4 * images:][labels[rows[4 * images:]] == 0]
        from_one_class[::2] = one_class[: len(other[::2])]
        for kind, sample in samples.items():
            for name, synthetic in (("alike", other), ("other", from_one_class)):
                pair = Comparison(real=sample.take(held_out), synthetic=sample.take(synthetic), features=NAME,
                                  floor=sample.take(floor), training=sample.take(training))
                for one in modules()[kind].measure(pair, repetitions=30, seed=repetition):
                    if name == "other":
                        values.setdefault(one.name, []).append((one.low, one.value, one.high))
                        continue
                    alike[one.name] += one.excess_low <= 0 <= one.excess_high
                    floors[one.name] += one.floor_low <= 0 <= one.floor_high
                    widths.setdefault(one.name, []).append(one.excess / (one.excess_high - one.excess_low))
        print(f"\r{repetition + 1} of {repetitions}", end="", flush=True)
    print()
    table = []
    for name, found in values.items():
        truth = float(np.mean([value for _, value, _ in found]))
        table.append({"number": name, "zero_excess_in_interval": alike[name], "of": repetitions,
                      "floor_holds_zero": floors[name] if name == "kernel_distance" else None,
                      "differing_hold_their_mean": sum(low <= truth <= high for low, _, high in found),
                      # 0.255 is an interval of exactly 95 %: width 3.92 deviations; less is wider than needed
                      "deviation_over_width": round(float(np.std(widths[name])), 3)})
    return table


def features(seed: int) -> Array:
    """Features like an image network's: not negative, of unequal variance, correlated."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(200, WIDTH)).astype(np.float32) / 14
    scale = generator.gamma(1.0, 0.3, WIDTH).astype(np.float32)
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(COUNT, 200)).astype(np.float32) @ mixing
    values += 0.5 * draw.normal(size=(COUNT, WIDTH)).astype(np.float32)
    return np.asarray(np.maximum(values + 0.3, 0) * scale, dtype=np.float32)


def ours_frechet(a: Array, b: Array) -> float:
    from radsynth.metrics.fidelity import frechet_distance

    return frechet_distance(a, b)


def ours_kernel(a: Array, b: Array) -> float:
    from radsynth.metrics.fidelity import kernel_distance

    return kernel_distance(a, b)


def ours_precision_recall(a: Array, b: Array) -> float:
    from radsynth.metrics.coverage import precision_recall_density_coverage

    return precision_recall_density_coverage(a, b)[0]


def _torchmetrics(metric: Any, a: Array, b: Array) -> Any:
    import torch

    for side, real in ((a, True), (b, False)):
        for part in torch.from_numpy(side).split(500):
            metric.update(part, real=real)
    return metric.compute()


def _given() -> Any:
    import torch

    class Given(torch.nn.Module):
        """Stands in for the network: the features were computed before."""

        num_features = WIDTH

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    return Given()


def torchmetrics_frechet(a: Array, b: Array) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_given(), normalize=False, input_img_size=(1, 1, WIDTH))
    return float(_torchmetrics(metric, a, b))


def torchmetrics_kernel(a: Array, b: Array) -> float:
    """All images at once, which is the number that we compute."""
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(feature=_given(), subsets=1, subset_size=COUNT)
    return float(_torchmetrics(metric, a, b)[0])


def torchmetrics_kernel_subsets(a: Array, b: Array) -> float:
    """As it comes: the mean of 100 subsets of 1,000."""
    from torchmetrics.image.kid import KernelInceptionDistance

    return float(_torchmetrics(KernelInceptionDistance(feature=_given()), a, b)[0])


def sklearn_precision_recall(a: Array, b: Array) -> float:
    """Kynkaanniemi's precision as one would write it with scikit-learn, and recall, density, coverage with it."""
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    reach_a, reach_b = (NearestNeighbors(n_neighbors=6, algorithm="brute").fit(x).kneighbors(x)[0][:, 5]
                        for x in (a, b))
    precise, start = np.zeros(len(b), dtype=bool), 0
    recalled = []
    for part in pairwise_distances_chunked(a, b):
        precise |= (part < reach_a[start:start + len(part), None]).any(0)
        recalled.append((part < reach_b[None]).any(1))
        start += len(part)
    return float(precise.mean())


CONTENDERS = {
    "Frechet distance": (ours_frechet, torchmetrics_frechet),
    "kernel distance": (ours_kernel, torchmetrics_kernel, torchmetrics_kernel_subsets),
    "precision and recall": (ours_precision_recall, sklearn_precision_recall),
}


def timed(contender: Any, answer: Any) -> None:
    warnings.simplefilter("ignore")
    a, b = features(1), features(2)
    contender(a[:300], b[:300]) if "torchmetrics_kernel" not in contender.__name__ else None  # libraries are loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    value = contender(a, b)
    seconds = time.monotonic() - start
    answer.put((seconds, value, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def speed(rounds: int) -> list[dict[str, Any]]:
    context, table = multiprocessing.get_context("spawn"), []
    for number, contenders in CONTENDERS.items():
        found: dict[str, list[tuple[float, float, float]]] = {c.__name__: [] for c in contenders}
        for _ in range(rounds):
            for contender in contenders:
                answer = context.SimpleQueue()
                process = context.Process(target=timed, args=(contender, answer))
                process.start()
                found[contender.__name__].append(answer.get())
                process.join()
        for name, results in found.items():
            table.append({"number": number, "by": name, "n": COUNT,
                          "seconds": round(statistics.median(r[0] for r in results), 2),
                          "value": float(f"{results[0][1]:.6g}"), "added_mb": round(max(r[2] for r in results))})
    return table


def show(table: list[dict[str, Any]]) -> None:
    print(" | ".join(table[0]))
    for row in table:
        print(" | ".join("-" if value is None else str(value) for value in row.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("coverage", "speed"))
    options = parser.parse_args()
    print(f"{here().name}, {here().cores} cores, N = {options.images}, seeds 0 to {options.repetitions - 1}")
    found: dict[str, Any] = {}
    Path("build").mkdir(exist_ok=True)
    if options.only != "speed":
        samples, labels = pool(options.data, Path("build/metrics_features"))
        found["coverage"] = coverage(samples, labels, options.repetitions, options.images)
        show(found["coverage"])
    if options.only != "coverage":
        found["speed"] = speed(options.rounds)
        show(found["speed"])
    Path("build/metrics.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
