"""What `--set a.b=c` changes in a recipe's data, before it is checked."""

from __future__ import annotations

import glob
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constitution.errors import RecipeError
from constitution.secrets import hide_keys

FORMATS = {"path": "auto", "dataset": "hub", "query": "sql"}
"""Where prompts come from, and the format that reads it unless another is named."""


def source_of(format: object) -> str:
    """The one of FORMATS that a format of prompts reads."""
    return {reader: source for source, reader in FORMATS.items()}.get(str(format), "path")


def apply(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Changes `data` in place; c is in TOML's notation, or else a plain string. A source of prompts that is named takes
    the place of the recipe's own; an empty one is none. Raises RecipeError for what is not of the form a.b=c."""
    keys = [_set(data, override) for override in overrides]
    prompts = data.get("prompts")
    if isinstance(prompts, dict):
        for name in FORMATS:
            if prompts.get(name) == "":
                del prompts[name]
        named = [name for name in FORMATS if f"prompts.{name}" in keys and name in prompts]
        if len(named) == 1:
            _read(prompts, named[0], "prompts.format" in keys)


def _set(data: dict[str, Any], override: str) -> str:
    """The key."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError(f"--set {hide_keys(key)}: expected a.b=value")
    if override.encode("utf-8", "ignore").decode() != override:
        raise RecipeError(f"--set {hide_keys(key)}: is not UTF-8 text")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    if key == "prompts.path" or (key == "prompts.dataset" and Path(str(value)).is_dir()):
        value = [_from_here(each) for each in value] if isinstance(value, list) else _from_here(value)
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise RecipeError(f"--set {hide_keys(key)}: {parent} is not a section")
    data[last] = value
    return key


def _from_here(path: Any) -> Any:
    """A path of the command line, from the working directory; of a pattern that directory is no part."""
    if not path or not isinstance(path, str) or Path(path).is_absolute():
        return path
    here = str(Path.cwd())
    return str(Path(glob.escape(here) if glob.has_magic(path) and not Path(path).exists() else here) / path)


def _read(prompts: dict[str, Any], source: str, keep_format: bool) -> None:
    for other in FORMATS.keys() - {source}:
        prompts.pop(other, None)
    if source != "dataset":
        for key in ("split", "config"):  # of the data set that was there
            prompts.pop(key, None)
    if not keep_format and source_of(prompts.get("format")) != source:
        prompts["format"] = FORMATS[source]
