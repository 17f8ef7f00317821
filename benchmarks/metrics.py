"""How fast the metrics are beside others, and how much memory they add: 10,000 against 10,000 features.

The same features for every contender, each in a process of its own, by turns; a first call with a few features loads
its libraries. Seconds, by the clock and of processor time, are medians of the rounds, memory the peak that was added to
the features. torchmetrics has no precision and recall: scikit-learn stands in.

Usage: python benchmarks/metrics.py [--rounds 3]. Prints one table, writes build/metrics.json. The clock tells something
on a quiet machine only; with OMP_NUM_THREADS=1 processor time does on any.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _told import told
from numpy.typing import NDArray

from radsynth.device import here

Array = NDArray[np.float32]
COUNT, WIDTH = 10_000, 1280


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

    metric = KernelInceptionDistance(feature=_given(), subsets=1, subset_size=len(a))
    return float(_torchmetrics(metric, a, b)[0])


def torchmetrics_kernel_subsets(a: Array, b: Array) -> float:
    """As it comes: the mean of 100 subsets of 1,000."""
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(feature=_given(), subset_size=min(1000, len(a)))
    return float(_torchmetrics(metric, a, b)[0])


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


def timed(contender: Any) -> tuple[float, float, float, float]:
    """Seconds, processor seconds, the number, and the megabytes that were added."""
    warnings.simplefilter("ignore")
    a, b = features(1), features(2)
    contender(a[:300], b[:300])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.monotonic(), time.process_time()
    value = contender(a, b)
    seconds, used = time.monotonic() - start, time.process_time() - used
    return seconds, used, value, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def speed(rounds: int) -> list[dict[str, Any]]:
    context, table = multiprocessing.get_context("spawn"), []
    for number, contenders in CONTENDERS.items():
        found: dict[str, list[tuple[float, float, float, float]]] = {c.__name__: [] for c in contenders}
        for _ in range(rounds):
            for contender in contenders:
                with context.Pool(1) as alone:
                    found[contender.__name__].append(alone.apply(timed, (contender,)))
        for name, results in found.items():
            table.append({"number": number, "by": name, "n": COUNT,
                          "seconds": round(statistics.median(r[0] for r in results), 2),
                          "processor_seconds": round(statistics.median(r[1] for r in results), 2),
                          "value": float(f"{results[0][2]:.6g}"), "added_mb": round(max(r[3] for r in results))})
    return table


def show(table: list[dict[str, Any]]) -> None:
    print(" | ".join(table[0]))
    for row in table:
        print(" | ".join(map(str, row.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{here().name}, {here().cores} cores")
    found = speed(options.rounds)
    show(found)
    Path("build").mkdir(exist_ok=True)
    Path("build/metrics.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    told(main)
