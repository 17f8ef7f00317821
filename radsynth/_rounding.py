"""Numbers as texts for people."""

from __future__ import annotations


def rounded(value: float, digits: int = 6) -> str:
    """To so many digits, and to a whole number from there on: 12346 and not 1.235e+04, which few readers know. What has
    more than 15 places nobody counts: 1e+300."""
    return f"{value:.0f}" if 10 ** digits - 0.5 <= abs(value) < 1e15 else f"{value:.{digits}g}"
