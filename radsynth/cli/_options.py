"""Words and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def argument(name: str, meaning: str) -> Any:
    """A word after the command, as help shows it."""
    return typer.Argument(metavar=name, help=meaning, show_default=False)


def out_folder(meaning: str) -> Any:
    """The option --out, as help shows it."""
    return typer.Option("--out", metavar="DIR", help=meaning, show_default=False)


def _read_first(budget: str | None) -> str | None:
    """A budget that means nothing is told before other words are: of '--budget 5 min' the last one would be a path."""
    if budget is not None:
        from radsynth.shorthand import read_budget

        read_budget(budget)
    return budget


def training_budget(default: str = "") -> Any:
    """The option --budget, as help shows it; default: what holds without it, in words."""
    return typer.Option("--budget", metavar="BUDGET", callback=_read_first,
                        help=f"Training: 30s, 2h30min, 1d or 100000img.{default and f' [default: {default}]'}")


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings; 'radsynth show settings' lists them."),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="FILE", help="YAML file of settings.")]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Settings that ship with radsynth; "
                                        "'radsynth show presets' lists them.")]
Privacy = Annotated[
    str | None, typer.Option("--privacy", metavar="dp", help="dp: differential privacy for one patient (epsilon 10).")
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Everything random follows from it. [default: 0]")
]
Target = Annotated[
    str | None, typer.Option("--target", metavar="DOMAIN", help="The domain to go to, for unpaired translation.")
]
Cluster = Annotated[
    str, typer.Option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster: tcp://host:port of its scheduler.")
]
Authority = Annotated[
    str, typer.Option("--ca", metavar="FILE", help="PEM file of authorities to trust. [default: the system's]")
]
Certificate = Annotated[
    str, typer.Option("--certificate", metavar="FILE", help="PEM file of our own certificate and key, where asked for.")
]
Strict = Annotated[bool, typer.Option("--strict", help="End with code 2 if any file has to be rejected.")]
