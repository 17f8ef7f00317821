"""One answer of the report's first minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sign = Literal["good", "note", "warning", "open"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One answer. sign: how it is marked, with a symbol and in words; limit: what the answer does not say."""

    heading: str
    question: str
    sign: Sign
    answer: str
    text: str
    limit: str = ""
