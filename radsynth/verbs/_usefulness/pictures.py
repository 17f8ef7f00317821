"""The chart of a utility study: score on unseen real patients over the share of real training patients."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from radsynth.files import write_atomically
from radsynth.verbs._report.words import count

LOOKS = {
    "real": ("#1b6ca8", "o", "real, as they are"),
    "augmented": ("#0b8457", "s", "real, augmented"),
    "both": ("#b5530b", "^", "real and synthetic, augmented"),
    "synthetic": ("#6d597a", "D", "synthetic alone, augmented"),
}
"""Colour, marker and name of every arm; told apart without colour too."""


def save_chart(document: dict[str, Any], path: Path) -> None:
    """Write the PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained", dpi=130)
    axes = figure.subplots()
    shares = document["shares"]
    for offset, (arm, (colour, marker, name)) in enumerate(LOOKS.items()):
        lines = [line for line in document["arms"] if line["arm"] == arm]
        places = [index + 0.09 * (offset - 1.5) for index in range(len(shares))]
        values = [100 * line["value"] for line in lines]
        spread = [[100 * (line["value"] - line["low"]) for line in lines],
                  [100 * (line["high"] - line["value"]) for line in lines]]
        axes.errorbar(places, values, yerr=spread, color=colour, marker=marker, capsize=3, linewidth=1.2,
                      linestyle="none" if arm == "synthetic" else "-", label=name)
    real = {line["share"]: line for line in document["arms"] if line["arm"] == "real"}
    names = [f"{100 * share:g} %\n{count(real[share]['images'], 'image')}\n{count(real[share]['patients'], 'patient')}"
             for share in shares]
    axes.set_xticks(range(len(shares)), names, fontsize=9)
    axes.set_xlabel("share of the real training patients", fontsize=9)
    tested = count(document["test"]["patients"], "unseen real patient")
    axes.set_ylabel(f"{document['metric']}, %\non {tested}", fontsize=9)
    if document["chance"]:
        axes.axhline(100 * document["chance"], color="#777777", linewidth=0.8, linestyle=":", label="chance")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
