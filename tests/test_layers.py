"""The house's walls that import-linter cannot express: plug-in files of one folder do not import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from radsynth.settings import kinds
from radsynth.verbs.show import FOLDERS

PACKAGE = Path(__file__).resolve().parent.parent / "radsynth"
FORBIDDEN = {"pickle", "cPickle", "dill", "torchvision"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_plugins_of_a_folder_do_not_import_each_other(folder: str) -> None:
    every = kinds(folder)
    for kind in every:
        others = {f"radsynth.{folder}.{other}" for other in every if other != kind}
        found = others & imported(PACKAGE / folder / f"{kind}.py")
        assert not found, f"{folder}/{kind}.py imports {found}: move what they share into a file that begins with '_'"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_and_loads_nothing_forbidden(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} opens without a docstring"
    assert not {name.partition(".")[0] for name in imported(path)} & FORBIDDEN
