"""What a benchmark says: of its machine, and the reason, not a traceback, where radsynth refuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radsynth.errors import DataError, RadsynthError


def machine() -> str:
    """What numbers were measured on."""
    import torch  # late: some benchmarks measure processes that do without it

    from radsynth.device import here

    return (f"{here().name}, {here().cores} cores, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
            f"{torch.get_num_threads()} threads")


def told(main: Callable[[], None]) -> None:
    """Run a benchmark."""
    try:
        main()
    except RadsynthError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def measured(found: dict[str, Any], name: str) -> dict[str, Any]:
    """One measurement of what `evaluate` found. DataError with the reason where it was refused."""
    for one in found["measurements"]:
        if one["name"] == name:
            return dict(one)
    reasons = [one["reason"] for one in found["refused"] if one["name"] == name]
    raise DataError(f"{name} was not measured: {' '.join(reasons) or 'nothing says why'}")
