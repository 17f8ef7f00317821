"""How images were found and prepared: kept with them and in runs, so that `apply` treats other images alike."""

from __future__ import annotations

import copy
from typing import Any

from radsynth.settings import Resolved

NOT_KEPT = "(not kept)"


def without_source(document: dict[str, Any]) -> dict[str, Any]:
    """Settings without paths of this machine: such names may name patients, and exports and reports are given away."""
    document = copy.deepcopy(document)
    data = document.get("data", {})
    for name, words in {"path": (), "labels": ("auto", "folders", "none")}.items():
        if name in data and data[name] not in words:
            data[name] = NOT_KEPT
    if document.get("prepare", {}).get("extra"):
        document["prepare"]["extra"] = NOT_KEPT
    if document.get("evaluate", {}).get("inception"):
        document["evaluate"]["inception"] = NOT_KEPT
    return document


def preparation_of(settings: Resolved) -> dict[str, Any]:
    """The sections `data` and `prepare`, as far as they were given, without sources."""
    document = without_source(settings.document())
    return {name: document[name] for name in ("data", "prepare") if name in document}
