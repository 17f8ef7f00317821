"""The discriminator of a run, which its checkpoints alone hold."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from radsynth.checkpoints import load_checkpoint
from radsynth.errors import FolderError
from radsynth.run_folder import RunFolder
from radsynth.tasks import Task


def load_discriminator(task: Task, run: Path) -> tuple[nn.Module | None, str]:
    """That of the last good checkpoint, to be asked, or None and the reason why there is none."""
    network, checkpoints = task.networks().get("discriminator"), RunFolder(run).checkpoints
    if network is None:
        return None, "This task has no discriminator."
    try:
        found = load_checkpoint(checkpoints)
    except FolderError as error:
        return None, str(error)
    if found is None:
        return None, f"{run} has no checkpoint any more, and only checkpoints hold the discriminator."
    try:
        network.load_state_dict(found[0]["networks"]["discriminator"])
    except RuntimeError:
        return None, (f"The discriminator in {checkpoints} is of another version of radsynth. Train the run again to "
                      "ask it.")
    return network.eval().requires_grad_(False), ""
