"""What a verb returns, as tables for people or as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from radsynth._rounding import rounded

_ROWS = 40
"""Longer tables are cut on the screen; --json and the written files have every row."""


def plain(value: Any) -> Any:
    """Plain values for JSON: data classes and named tuples become dictionaries, paths texts, arrays lists."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # JSON has no NaN and no infinity
    return str(value)


def print_json(result: Any) -> None:
    """The result as JSON on stdout, and nothing else."""
    sys.stdout.write(json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_tables(result: Any) -> None:
    """The result as tables on stdout. A result with a `text()` is printed as that text."""
    console = Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=140)
    if result is None:
        return
    if isinstance(result, str | Path):
        console.print(Text(str(result)), soft_wrap=True)
    elif hasattr(result, "text"):
        console.print(Text(result.text()), soft_wrap=True)
    elif isinstance(values := plain(result), Mapping):
        _print_mapping(console, "", values)
    else:
        _print_list(console, "", values if isinstance(values, list) else [values])


def _print_mapping(console: Console, title: str, values: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    nested = {}
    for name, value in values.items():
        if _is_rows(value) or (isinstance(value, Mapping) and any(isinstance(v, dict | list) for v in value.values())):
            nested[name] = value
        elif value not in ([], {}, ""):
            table.add_row(_words(name), Text(_cell(value, name)))
    if table.row_count:
        _print_title(console, title)
        console.print(table)
    for name, value in nested.items():
        if isinstance(value, Mapping):
            _print_mapping(console, _words(name), value)
        else:
            _print_list(console, _words(name), value)


def _print_list(console: Console, title: str, items: Sequence[Any]) -> None:
    if not _is_rows(items):
        for item in items:
            console.print(Text(_cell(item)), soft_wrap=True)
        return
    if any(_is_rows(value) for value in items[0].values()):  # a table in every item: one after the other
        for item in items:
            _print_item(console, item)
        return
    every = dict.fromkeys(name for item in items for name in item)
    names = [name for name in every if any(item.get(name) not in (None, "", [], {}) for item in items)]
    _print_title(console, title)
    table = Table()
    for name in names:
        table.add_column(_words(name), overflow="fold")
    for item in items[:_ROWS]:
        table.add_row(*(Text(_cell(item.get(name, ""), name)) for name in names))
    console.print(table)
    if len(items) > _ROWS:
        console.print(f"... and {len(items) - _ROWS} more; --json prints all")


def _print_item(console: Console, item: Mapping[str, Any]) -> None:
    title = " ".join(value for name, value in item.items() if isinstance(value, str) and value and name != "meaning")
    for value in item.values():
        if _is_rows(value):
            _print_list(console, f"{title}: {item['meaning']}" if item.get("meaning") else title, value)
            console.print()


def _print_title(console: Console, title: str) -> None:
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any, name: str = "") -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return rounded(value, 4)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_cell(item)}" for key, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str) and item.endswith(".") for item in value):
        return " ".join(value)  # sentences
    if isinstance(value, list):
        return " x ".join(map(str, value)) if "size" in name else ", ".join(map(_cell, value))
    return str(value)
