"""Every error that radsynth raises on purpose. The command line prints its text alone and exits with its code.

RadsynthError (a ValueError)
├── SettingsError      exit 2: settings, kinds or options that do not exist or cannot work; lists all problems at once
├── DataError          exit 2: input that cannot be used as a whole: missing, empty, mixed, no usable image
│   ├── RejectedFile   one file that cannot be used; verbs put it into the rejected-files table and go on
│   └── CannotHold     one image that a format has no room for; `apply` puts what it was made of into that table
├── MissingExtra       exit 2: an optional dependency that is not installed; names the extra
├── FolderError        exit 3: a prepared, run or output folder that is missing, incomplete, foreign or damaged
├── PacsError          exit 5: a PACS that cannot be reached or refuses us; what was done is recorded
├── TrainingError      exit 4: training that had to stop (values not finite); the last good checkpoint is kept
│   └── OutOfMemory    memory does not suffice, in however many parts a batch is computed
└── Interrupted        exit 130 (SIGTERM: 143, SIGHUP: 129): stopped on request, all is saved; the same command resumes
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path


class RadsynthError(ValueError):
    """Something that the user can put right. The text says what was wrong, where, what is allowed, what to do."""

    exit_code = 2


class SettingsError(RadsynthError):
    """Settings that do not exist or cannot work together."""


class DataError(RadsynthError):
    """Input that cannot be used as a whole."""


class RejectedFile(DataError):
    """One input file that cannot be used. The text is the reason, without the path."""


class CannotHold(DataError):
    """One image that the format it is to be written in cannot hold."""


class MissingExtra(RadsynthError):
    """A feature whose optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the optional dependency '{extra}': pip install 'radsynth[{extra}]'")
        self.missing = feature, extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        """So that it comes whole out of another process."""
        return MissingExtra, self.missing


class FolderError(RadsynthError):
    """A prepared, run or output folder that is missing, incomplete, foreign or damaged."""

    exit_code = 3


class PacsError(RadsynthError):
    """A PACS that cannot be reached or refuses us."""

    exit_code = 5


class TrainingError(RadsynthError):
    """Training that had to stop."""

    exit_code = 4


class OutOfMemory(TrainingError):
    """Memory does not suffice, in however many parts a batch is computed."""


class Interrupted(RadsynthError):
    """Stopped on request; everything is saved and the same command resumes."""

    exit_code = 130


def in_command(path: Path | str) -> str:
    """A path as a command within 'single quotes' has to name it: in double quotes where a shell would part it."""
    text = str(path)
    if shlex.quote(text) == text:
        return text
    return shlex.quote(text) if re.search(r'["$`\\!]', text) else f'"{text}"'


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out. On a CPU torch has no error class for it, nor for CUDA's libraries."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, which is not loaded
    return named or any(text in str(error) for text in (
        "DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"))
