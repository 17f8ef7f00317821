"""Time and energy that a run took: measured seconds, and watts that are assumed and said so."""

from __future__ import annotations

from dataclasses import dataclass

from radsynth.verbs._run_files import RunFiles

CORE_WATTS = 10.0
"""Assumed for a busy processor core with its share of memory."""
GPU_WATTS = 400.0
"""Assumed for a busy graphics processor with its share of the machine."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """seconds: by step, as far as they were written down; watts: assumed for all; devices: what they are for."""

    seconds: dict[str, float]
    watts: float
    devices: str

    @property
    def watt_hours(self) -> float:
        """The estimate of the energy of all steps."""
        return sum(self.seconds.values()) * self.watts / 3600

    @property
    def assumption(self) -> str:
        """What the estimate rests on."""
        return (f"Times are by the clock. The energy assumes {self.devices}, busy all the time; cooling, idle time and "
                "steps without a written time are not in it.")


def effort(files: RunFiles) -> Effort:
    """What the run folder says of times. Nothing is guessed: a step without a written time is not in it."""
    sources = {"training": files.get("generator.json"), "evaluation": files.get("results.json").get("context", {}),
               "audit": files.get("audit.json").get("context", {}), "usefulness": files.get("utility.json")}
    seconds = {step: float(found["seconds"]) for step, found in sources.items()
               if isinstance(found.get("seconds"), int | float)}
    versions = files.get("versions.json")
    threads, processes = int(versions.get("threads", 1)), int(versions.get("gpus", 0))
    if processes:
        return Effort(seconds=seconds, watts=GPU_WATTS * processes,
                      devices=f"{processes} graphics processor{'s' if processes > 1 else ''} of {GPU_WATTS:g} W")
    return Effort(seconds=seconds, watts=CORE_WATTS * threads,
                  devices=f"{threads} processor core{'s' if threads > 1 else ''} of {CORE_WATTS:g} W")
