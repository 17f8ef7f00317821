"""A page of HTML from one of our templates."""

from __future__ import annotations

from typing import Any


def template(name: str) -> Any:
    """The template of this name, to be rendered; texts from files mean nothing in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("radsynth"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(name)
