"""Files with equal content, found without reading most of them: only files of equal size are read, their ends first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from radsynth.datasets import Record

ENDS = 65_536
"""Bytes at both ends of a file that are compared before the whole file is."""


def equal_files(records: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """Sources of records with a file of their own whose content is that of another."""
    owners: dict[str, str] = {}
    for record in records:
        if len(record.files) == 1:
            owners.setdefault(record.files[0], record.source.partition("#")[0])
    groups: list[list[str]] = [list(owners)]
    for key in (_size, _ends, _content):
        finer: dict[Any, list[str]] = defaultdict(list)
        for number, group in enumerate(groups):
            for file in group:
                finer[number, key(Path(file))].append(file)
        groups = [group for group in finer.values() if len(group) > 1]
    return tuple(tuple(owners[file] for file in group) for group in groups)


def _size(path: Path) -> int:
    return path.stat().st_size


def _ends(path: Path) -> bytes:
    with open(path, "rb") as file:
        head = file.read(ENDS)
        if path.stat().st_size > ENDS:
            file.seek(-ENDS, 2)
            head += file.read(ENDS)
    return blake2b(head, digest_size=16).digest()


def _content(path: Path) -> bytes:
    if path.stat().st_size <= 2 * ENDS:
        return b""  # its ends were the whole
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.digest()
