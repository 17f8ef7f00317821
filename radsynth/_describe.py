"""What a settings class says of itself: names, meanings, defaults and, in words, the allowed values."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from radsynth._yaml import dump_yaml


class Setting(NamedTuple):
    """One setting, as `radsynth show settings` and docs/settings.md give it. Without a `default` it must be given."""

    name: str
    meaning: str
    default: str | None
    allowed: str


@functools.cache
def names_in(path: Path) -> tuple[str, ...]:
    """The settings that the class `Settings` of a module has, read without importing it; () where it has no class."""
    classes = (line for line in ast.parse(path.read_text(encoding="utf-8")).body
               if isinstance(line, ast.ClassDef) and line.name == "Settings")
    return tuple(line.target.id for own in classes for line in own.body
                 if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name))


def describe(cls: type[Any]) -> list[Setting]:
    """Every setting of a section's class: name, meaning, default (as YAML) and allowed values."""
    schema = pydantic.TypeAdapter(cls).json_schema()
    described = []
    for name, field in cls.__pydantic_fields__.items():
        default = None
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            plain = pydantic.TypeAdapter(Any).dump_python(value, mode="json")
            default = dump_yaml(plain, flow=True)
        text = field.description or ("Which one." if name == "kind" else "")
        described.append(Setting(name, text, default, _allowed(schema["properties"][name], schema)))
    return described


def _allowed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A JSON schema's type and bounds in words."""
    if "$ref" in schema:
        return _allowed(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) or "empty" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_allowed(option, root) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return _allowed_list(schema, root)
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return "names with " + (f"values ({_allowed(values, root)})" if isinstance(values, dict) else "values")
    word = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "null": "null"}
    text = "a path" if schema.get("format") == "path" else word.get(schema.get("type", ""), "text")
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{words} {schema[bound]:g}" for bound, words in bounds.items() if bound in schema]
    return ", ".join([text, *limits])


def _allowed_list(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return "a list: [" + "; ".join(_allowed(item, root) for item in schema["prefixItems"]) + "]"
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{least} to {most}" if most else f"at least {least}" if least else ""
    count = str(least) if least == most else count
    inner = _allowed(schema["items"], root) if "items" in schema else "values"
    return f"a list of {count} ({inner})".replace("  ", " ")
