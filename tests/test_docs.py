"""Documentation that lags behind the code is a failure."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import radsynth
from radsynth._describe import describe
from radsynth.cli import app
from radsynth.settings import SECTIONS, kinds, names, read_yaml, resolve, settings_class
from radsynth.shorthand import PRESETS
from radsynth.verbs.show import FOLDERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BENCHMARKS = sorted(ROOT.glob("benchmarks/[a-z]*.py"))
FIRST_PAGES = ("index", "tutorial", "architecture", "benchmarks", "lab-notebook", "cli", "settings")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli", "settings"])
def test_generated_pages_say_what_the_code_says(name: str) -> None:
    page = ROOT / "docs" / f"{name}.md"
    expected = getattr(generator(), f"{name}_page")()
    assert page.exists() and page.read_text(encoding="utf-8") == expected, f"docs/{name}.md lags: run 'make docs'"


def test_every_setting_has_a_meaning() -> None:
    for section, where in SECTIONS.items():
        for kind in kinds(where.module) if where.default_kind else ("",):
            assert names(section, kind) == tuple(one.name for one in describe(settings_class(section, kind)))
            for setting in describe(settings_class(section, kind)):
                named = setting.name == "kind" or setting.meaning
                assert named, f"{section}.{setting.name} ({kind}) has no docstring below it"


def test_every_plugin_is_named_in_the_docs() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [f"{folder}/{kind}" for folder in FOLDERS for kind in kinds(folder) if f"`{kind}`" not in text]
    assert not missing, f"run 'make docs': {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_rows_of_tables_have_the_columns_of_their_heads(page: Path) -> None:
    """A stroke within code ends a cell, too, unless it is escaped: the rest of the row is not shown."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = {row: len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        head = next(iter(columns.values()))
        assert all(count == head for count in columns.values()), [row for row in columns if columns[row] != head]


def test_the_first_pages_are_there_and_the_index_names_them() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages >= set(FIRST_PAGES)
    assert [page for page in sorted(pages - {"index"}) if f"({page}.md)" not in index] == []


def code_blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(page: Path, program: str) -> list[list[str]]:
    lines = "\n".join(code_blocks(page, "bash", "sh", "console")).replace("\\\n", " ").splitlines()
    uncommented = [line.split(" #")[0].strip().removeprefix("$ ") for line in lines]
    parts = [re.sub(r"^(\w+=\S+ )+", "", line).split() for line in uncommented]
    return [part[1:] for part in parts if part and part[0] == program]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    from typer.main import get_command

    known = get_command(app).commands  # type: ignore[attr-defined]  # a group
    for words in commands(page, "radsynth"):
        if words[0].startswith("-"):
            continue
        assert words[0] in known, f"{page.name}: radsynth {' '.join(words)}"
        options = {name for option in known[words[0]].params for name in option.opts} | {"--help", "-h"}
        for word in words[1:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"{page.name}: {word} in radsynth {' '.join(words)}"
            elif re.match(r"[a-z]+\.\w+=", word):
                section, key = re.split(r"[.=]", word)[:2]
                assert section in SECTIONS, f"{page.name}: {word}"
                where = SECTIONS[section]
                names = {
                    setting.name
                    for kind in (kinds(where.module) if where.default_kind else ("",))
                    for setting in describe(settings_class(section, kind))
                }
                assert key in names, f"{page.name}: {word}"
    targets = set(re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), flags=re.M)[0].split())
    for words in commands(page, "make"):
        assert set(words) <= targets, f"{page.name}: make {' '.join(words)}"


def options_of(benchmark: Path) -> dict[str, bool]:
    """The options of a script, and whether its help shows them; it is not run."""
    calls = [node for node in ast.walk(ast.parse(benchmark.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"]
    return {ast.literal_eval(call.args[0]): not any(ast.unparse(word.value).endswith("SUPPRESS")
                                                    for word in call.keywords) for call in calls}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.name)
def test_benchmarks_tell_their_options(benchmark: Path) -> None:
    """Their docstrings are their help."""
    known = options_of(benchmark)
    told = set(re.findall(r"--[a-z][a-z-]*", ast.get_docstring(ast.parse(benchmark.read_text(encoding="utf-8"))) or ""))
    shown = {name for name, is_shown in known.items() if is_shown and name.startswith("-")}
    assert shown <= told <= set(known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_benchmarks_in_the_docs_exist(page: Path) -> None:
    for name, words in re.findall(r"benchmarks/(\w+\.py)([^`#]*)", page.read_text(encoding="utf-8")):
        benchmark = ROOT / "benchmarks" / name
        assert benchmark in BENCHMARKS, f"{page.name}: benchmarks/{name}"
        assert set(re.findall(r"--[a-z][a-z-]*", words)) <= set(options_of(benchmark)), f"{page.name}: {name}{words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_use_names_that_exist(page: Path) -> None:
    for text in code_blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "radsynth":
                assert hasattr(radsynth, node.attr), f"{page.name}: radsynth.{node.attr}"


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them (no page has the same heading twice)."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S),
                          flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
               if not re.match(r"[a-z]+:", target)]
    for target in targets:
        name, _, anchor = target.partition("#")
        goal = page.parent / name if name else page
        assert goal.exists(), target
        assert not anchor or anchor in anchors(goal), target


def test_pages_and_sections_that_the_code_names_exist() -> None:
    sources = [*ROOT.glob("radsynth/**/*.py"), *PRESETS.glob("*.yaml"), *ROOT.glob("benchmarks/*.py")]
    for source in sources:
        for name, section in re.findall(r'docs/([\w-]+\.md)(?:, "([^"]+)")?', source.read_text(encoding="utf-8")):
            goal = ROOT / "docs" / name
            assert goal.exists(), f"{source.name}: docs/{name}"
            assert re.search(f"^#+ .*{re.escape(section)}", goal.read_text(encoding="utf-8"), flags=re.M), \
                f"{source.name}: docs/{name}, {section}"


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_are_valid(preset: Path) -> None:
    resolve(read_yaml(preset))
    assert preset.read_text(encoding="utf-8").startswith("# "), "a preset says first what it is"


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(rf"^## \[({re.escape(version)}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    pinned = {line.partition("==")[0].replace("_", "-") for line in lines if "==" in line}
    names = {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in wanted}  # type: ignore[index]
    assert names <= pinned, names - pinned
