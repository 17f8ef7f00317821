"""Whether what a run's results.json holds is what would be measured now: it notes what it was measured from.

`run` measures the same weights on the same images but once, as `generate` makes the same request but once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radsynth.files import clear_killed, write_atomically
from radsynth.run_folder import RunFolder, version_of
from radsynth.verbs._applying.anatomy import segmenters
from radsynth.verbs._applying.limits import FROM
from radsynth.verbs._applying.not_found import EXPECTED
from radsynth.verbs._made_before import REQUEST

NOTE = "measured_from"


def measured(run: Path, data: Path, options: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What RUN/results.json holds, where it was measured from what is there now; else what `measure` writes there.

    data: the prepared folder; options: settings of the measurement
    """
    clear_killed(run / "results.json")  # it may show patients, where no picture of them is asked for now
    now = json.loads(json.dumps(_measured_from(run, data, options)))  # as it is read back
    held = _held(run)
    if held is not None and held[NOTE]["of"] == now:
        return held
    document = measure()
    document[NOTE] = {"of": now, "pictures": _pictures(run)}
    write_atomically(run / "results.json", json.dumps(document, indent=1))
    return document


def _measured_from(run: Path, data: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Everything that the numbers depend on."""
    made, inception = run / "synthetic" / REQUEST, options["inception"]
    return {
        "weights": RunFolder(run).weights_hash,
        "anatomy": segmenters(run),
        "synthetic": json.loads(made.read_text(encoding="utf-8")) if made.exists() else None,
        # The arrays' hash knows nothing of classes and patients.
        "data": {name: _hash(data / name) for name in ("manifest.json", "records.csv")},
        "evaluate": {**options, "inception": inception and _hash(inception)},  # paths are not for others' eyes
        # Without itk registrations that learn nothing are left out of the comparison.
        "versions": {name: version_of(name) for name in ("radsynth", "itk")},
    }


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _held(run: Path) -> dict[str, Any] | None:
    """What was measured before, None where it cannot be read, says not from what, a picture for the report lacks, or
    an older version measured otherwise."""
    try:
        document: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
        note = document[NOTE]
        if document.get("limits") and FROM not in document:
            return None  # an older version set them, which counted images
        if document.get("pairs", {}).get("task") == "segment" and EXPECTED not in document:
            return None  # an older version, which did not look at the training masks
        if document.get("pairs", {}).get("task") == "register" and FROM not in document:
            return None  # an older version, which set no limits
        return document if note["of"] and set(note["pictures"]) <= set(_pictures(run)) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _pictures(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "pictures").glob("*.npy"))
