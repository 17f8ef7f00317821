"""radsynth learns from medical images with generative adversarial networks and makes new ones, with the evidence.

The verbs (`inspect`, `prepare`, `train`, ...) and `Image`, `read`, `write`, `load` are loaded when they are first used,
so that `import radsynth` costs nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":  # folders are locked, and the child that decodes files is watched, as POSIX has it
    raise ImportError("radsynth runs on Linux and macOS. On Windows install it in WSL 2 ('wsl --install' in a terminal "
                      "of an administrator), where your disks are under /mnt.")

if TYPE_CHECKING:
    from radsynth.image import Image as Image
    from radsynth.io import read as read
    from radsynth.io import write as write
    from radsynth.verbs.apply import apply as apply
    from radsynth.verbs.audit import audit as audit
    from radsynth.verbs.control import control as control
    from radsynth.verbs.evaluate import evaluate as evaluate
    from radsynth.verbs.explain import explain as explain
    from radsynth.verbs.export import export as export
    from radsynth.verbs.generate import generate as generate
    from radsynth.verbs.inspect import inspect as inspect
    from radsynth.verbs.prepare import prepare as prepare
    from radsynth.verbs.pull import pull as pull
    from radsynth.verbs.push import push as push
    from radsynth.verbs.report import report as report
    from radsynth.verbs.run import run as run
    from radsynth.verbs.show import show as show
    from radsynth.verbs.train import train as train
    from radsynth.verbs.utility import utility as utility
    from radsynth.web.serve import serve as serve

VERBS = ("inspect", "prepare", "train", "generate", "apply", "evaluate", "audit", "utility", "control", "explain",
         "report", "run", "pull", "push", "export", "serve", "show")
_PLACES = {
    **{verb: f"radsynth.verbs.{verb}" for verb in VERBS},
    "serve": "radsynth.web.serve",
    "Image": "radsynth.image",
    "read": "radsynth.io",
    "write": "radsynth.io",
    "load": "radsynth.verbs.generate",
}
__all__ = ["VERBS", "__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    import importlib
    import importlib.metadata

    if name == "__version__":
        return importlib.metadata.version("radsynth")
    if name not in _PLACES:
        raise AttributeError(f"module 'radsynth' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
