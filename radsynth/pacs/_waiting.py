"""How long a PACS is waited for."""

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries; one more try than pauses."""

TIMEOUT = (10, 120)
"""Seconds to connect, and between two bytes of an answer."""
