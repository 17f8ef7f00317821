"""TensorBoard's curves of a training, beside log.jsonl."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from radsynth.run_folder import RunFolder

Draw = Callable[[dict[str, float], int], None]


@contextmanager
def board(folder: RunFolder, images: int) -> Iterator[Draw]:
    """Gives a function that draws logged terms after so many images; in a process that does not write, nothing.

    images: after which training goes on; what was drawn later is hidden
    """
    if not folder.writes:
        yield lambda terms, images: None
        return
    from torch.utils.tensorboard.writer import SummaryWriter

    path = folder.path / "tensorboard"
    writer = SummaryWriter(str(path), purge_step=images)

    def draw(terms: dict[str, float], images: int) -> None:
        try:
            for name, value in terms.items():
                writer.add_scalar(name, value, images)
        except OSError as error:  # of its thread, some time ago
            raise folder.not_written(path, error) from None

    with _no_traceback_of_the_disk():
        try:
            yield draw
        finally:
            # A disk that is full for it is full for the log and the checkpoint too, whose error says what to do.
            with suppress(OSError):
                writer.close()


@contextmanager
def _no_traceback_of_the_disk() -> Iterator[None]:
    """Within it a disk that refuses what TensorBoard's thread writes is told by `draw` alone, which raises that error
    anew: a traceback above it would hide what to do."""
    former = threading.excepthook

    def told(error: threading.ExceptHookArgs) -> None:
        if not (type(error.thread).__module__.startswith("tensorboard.") and isinstance(error.exc_value, OSError)):
            former(error)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = former
