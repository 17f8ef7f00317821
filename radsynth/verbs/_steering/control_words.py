"""What a study of directions found, in words: what can be controlled, and what moves along with it."""

from __future__ import annotations

from typing import Any

WEAK = 0.2
"""An effect below this many standard deviations of the attribute a step is too weak to be called control."""

SEEN = 0.05
"""Standard deviations of an attribute below which an effect is not told."""


def sentences(document: dict[str, Any]) -> list[str]:
    """One sentence for each attribute, by its better direction; then the classes."""
    units = {one["name"]: one["unit"] for one in document["attributes"]}
    found = []
    for name, unit in units.items():
        found.append(_attribute(name, unit, [line for line in document["directions"] if _aims_at(line, name)]))
    found += [_class(line) for line in document["directions"] if line["kind"] == "class"]
    return found


def _aims_at(line: dict[str, Any], name: str) -> bool:
    return line["name"] in (name, f"{name}, others kept") and line["kind"].startswith("attribute")


def of(line: dict[str, Any], name: str) -> dict[str, Any]:
    """The effect of a direction on an attribute."""
    return next(effect for effect in line["effects"] if effect["attribute"] == name)


def strongest_other(line: dict[str, Any], name: str) -> dict[str, Any]:
    """The largest side effect."""
    return max((effect for effect in line["effects"] if effect["attribute"] != name),
               key=lambda effect: abs(effect["relative"]))


def _attribute(name: str, unit: str, lines: list[dict[str, Any]]) -> str:
    working = [line for line in lines if of(line, name)["low"] > 0 and of(line, name)["relative"] >= WEAK]
    if not working:
        return f"{name.capitalize()} could not be controlled: no direction raises it by {WEAK} deviations a step."
    best = max(working, key=lambda line: of(line, name)["relative"] / (
        abs(strongest_other(line, name)["relative"]) + 0.05))
    wanted, side = of(best, name), strongest_other(best, name)
    aside = (f"the largest side effect is on {side['attribute']} ({side['relative']:+.1f} deviations)"
             if abs(side["relative"]) >= SEEN else f"no side effect reaches {SEEN} deviations")
    return (f"{name.capitalize()}: one step along '{best['name']}' changes it by {wanted['slope']:+.2g} "
            f"({wanted['low']:+.2g} to {wanted['high']:+.2g}) {unit}, {wanted['relative']:.1f} of its standard "
            f"deviation, in the same sense in {100 * wanted['consistent']:.0f} % of the images; {aside}.")


def _class(line: dict[str, Any]) -> str:
    strong = sorted((effect for effect in line["effects"] if abs(effect["relative"]) >= SEEN),
                    key=lambda effect: -abs(effect["relative"]))[:2]
    changes = ", ".join(f"{effect['attribute']} by {effect['relative']:+.1f}" for effect in strong)
    return f"The way from class {line['name']} " + (
        f"changes, in standard deviations: {changes}." if strong else f"changes no attribute by {SEEN} deviations.")
