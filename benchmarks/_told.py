"""How a benchmark ends that radsynth refuses: with the reason, not with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radsynth.errors import DataError, RadsynthError


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
