"""What a prepared folder was made of, as a hash: so that the same command finds its own again, and no other does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from radsynth.datasets import Record
from radsynth.io import beside

FORMAT = 1
"""Version of what `prepare` makes of the same input; another number makes every prepared folder a foreign one."""

LATER = {"unmasked": "reject", "spacing": None}
"""Settings that came later, with what they are by default: folders from before stay what they are."""

LATER_OF: dict[str, dict[str, Any]] = {"medmnist": {"conditions": ()}}
"""The same of one kind of data: others have had the setting all along."""


def source_hash(data: Any, options: Any, records: Sequence[Record]) -> str:
    """A hash of the settings (`data` and `prepare`), the records and the size and time of their files; where they lie
    does not matter, nor does how strict one is."""
    digest = hashlib.sha256(f"{FORMAT} {data.kind}".encode())
    for section in (data, replace(options, strict=False)):
        later = {**LATER, **LATER_OF.get(getattr(section, "kind", ""), {})}
        left_out = {"path", "extra", *(name for name, usual in later.items() if getattr(section, name, "") == usual)}
        plain = TypeAdapter(type(section)).dump_python(section, mode="json", exclude=left_out)
        digest.update(json.dumps(plain, sort_keys=True).encode())
    for record in records:
        known = (record.source, record.patient, record.label, record.split, *sorted(record.conditions.items()))
        digest.update(repr(known).encode("utf-8", "replace"))
    named = {name for record in records for name in (*record.files, *record.masks)}
    for name in sorted(named.union(*(beside(Path(name)) for name in named))):
        state = Path(name).stat()
        digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()
