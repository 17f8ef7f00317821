"""Numbers as texts for people."""

from __future__ import annotations


def rounded(value: float, digits: int = 6) -> str:
    """To so many digits, and to a whole number from there on: 12346 and not 1.235e+04, which few readers know."""
    return f"{value:.0f}" if abs(value) >= 10 ** digits - 0.5 else f"{value:.{digits}g}"
