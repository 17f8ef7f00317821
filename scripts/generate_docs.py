"""Writes docs/cli.md and docs/settings.md from the code. tests/test_docs.py compares them."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

import radsynth
from radsynth.cli import app
from radsynth.shorthand import presets
from radsynth.verbs.show import KindHelp, SectionHelp, show

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARK = "<!-- Written by scripts/docs from the code: change the code, then run `make docs`. -->\n"


def cli_page() -> str:
    """Every command's help."""
    runner = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"})
    parts = ["# The command line\n", MARK]
    for verb in ("", *radsynth.VERBS):
        result = runner.invoke(app, [*([verb] if verb else []), "--help"], prog_name="radsynth")
        assert result.exit_code == 0, result.output
        lines = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## radsynth {verb}".rstrip() + f"\n\n```text\n{lines}\n```\n")
    parts.append(
        "## Exit codes\n\n"
        "| code | meaning |\n| --- | --- |\n"
        "| 0 | done |\n"
        "| 1 | a fault of radsynth; the message names the file with the details |\n"
        "| 2 | settings, options or input that cannot be used |\n"
        "| 3 | a folder that is missing, incomplete, foreign, damaged or cannot be written |\n"
        "| 4 | training had to stop; the last good checkpoint is kept |\n"
        "| 5 | a PACS that cannot be reached, refuses us, or did not give or take every instance |\n"
        "| 130, 143, 129 | stopped on request, by Ctrl-C (SIGINT), by SIGTERM or by a closed "
        "terminal (SIGHUP; under `nohup` or after `disown` work goes on); the same command goes on where it stopped. "
        "`serve`, which is meant to be stopped so, ends with 0 |\n"
        "| 141 | nobody read its output to the end (`head`), as of other programs (SIGPIPE) |\n\n"
        "With `RADSYNTH_DEBUG=1` every error also shows its traceback.\n"
    )
    return "\n".join(parts)


def settings_page() -> str:
    """Every section and kind with its settings, then every plug-in."""
    parts = [
        "# Settings and kinds\n",
        MARK,
        "A settings file (`--settings FILE`) holds sections with settings below them; `section.key=value` on the\n"
        "command line says the same and wins over the file. Nothing here must be set except where the default is\n"
        "missing. `seed` (default 0) stands beside the sections.\n",
        "**What `radsynth run` uses is often not the default below.** It looks at the data, the machine and the\n"
        "budget and chooses size, network, batch, rates and augmentation itself; what is given wins over that, the\n"
        "defaults are for the rest. `radsynth inspect DATA` prints the choices with their reasons, the run folder\n"
        "keeps them in `plan.json`, and all settings in `settings.yaml`. `radsynth train` alone takes the network's\n"
        "own recipe.\n",
        "Sections of several kinds (`data`, `task`, `model`) hold the settings of one of them: `kind` says which, and\n"
        "with another one none of the former's settings stays. A file that names none goes with that of the command\n"
        "line. For `data` it follows from what DATA is.\n",
    ]
    for section in show("settings"):
        assert isinstance(section, SectionHelp)
        parts += _section(section)
    parts.append("## Presets\n\n"
                 "Settings that ship with radsynth: `--preset NAME`; `radsynth show presets NAME` prints one.\n")
    parts.append(_table(("preset", "what it is"), [(f"`{name}`", text) for name, text in presets().items()]))
    parts.append("## Every kind\n\nEach is one file: `kind: dcgan` is `radsynth/models/dcgan.py`.\n")
    rows = [kind for kind in show("kinds") if isinstance(kind, KindHelp)]
    parts.append(_table(("folder", "kind", "what it is"), [(k.folder, f"`{k.kind}`", k.meaning) for k in rows]))
    return "\n".join(parts)


def _section(section: SectionHelp) -> list[str]:
    kind = f", kind `{section.kind}`" + (" (default)" if section.is_default else "") if section.kind else ""
    rows = [
        (f"`{section.section}.{s.name}`", f"`{s.default}`" if s.default is not None else "", s.allowed, s.meaning)
        for s in section.settings
    ]
    return [
        f"## {section.section}{kind}\n",
        f"{section.meaning}\n",
        _table(("setting", "default", "allowed", "meaning"), rows),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = ("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n".join(cells) + "\n"


def main() -> None:
    """Write both pages."""
    for name, page in (("cli.md", cli_page), ("settings.md", settings_page)):
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
