"""YAML without its surprises: `1e-3` is a number, `no` and `1:30` are text, a key given twice is an error."""

from __future__ import annotations

import re
from typing import Any

import yaml

# YAML 1.2's core schema. PyYAML follows 1.1, which reads "1e-3" as text, "no" as false and "1:30" as 90.
_RESOLVERS = (
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+$", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"<<$", ["<"]),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol: a table per class


class _Dumper(yaml.SafeDumper):
    """Adds our table to YAML 1.1's, so that a text which either would read as something else is quoted."""


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
    _Dumper.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # PyYAML reads 010 as octal


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str) -> Any:
    """The value in a YAML text, plain types only; yaml.YAMLError when it is not valid."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark, what = error.problem_mark, " ".join(filter(None, (error.context, error.problem)))
        raise yaml.YAMLError(f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else what) from None
    except (RecursionError, ValueError, KeyError) as error:
        raise yaml.YAMLError(str(error)) from None


def dump_yaml(value: Any, *, flow: bool = False) -> str:
    """YAML that `parse_yaml` reads back; `flow` gives a single line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10_000)
    return text.removesuffix("...\n").strip() if flow else text
