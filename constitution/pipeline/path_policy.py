"""Where a recipe may read files: in its project and its own folder, and where the user says.

    folders = allowed_folders(recipe_path, allow)
    check_places(recipe, recipe_path, folders)

A recipe may come from elsewhere, and what it names is sent to models and put into tables: it must not be a way to files
that it does not know of. What --set gives is the user's own word, and so are --allow DIR and the variable
CONSTITUTION_ALLOW. Symbolic links are followed before the look; a model's folder may hold links to its weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitution.engines.weights import SHIPPED
from constitution.errors import PrincipleError, RecipeError
from constitution.principles import find_root
from constitution.prompts.files import files_of
from constitution.recipe import ModelSection, Recipe, TransformersModel, VLLMModel
from constitution.templates.wording import FOLDER

VARIABLE = "CONSTITUTION_ALLOW"
"""Folders that every recipe may read in, parted as in PATH."""

ANYWHERE = (Path("/"),)


def allowed_folders(recipe_path: Path, allow: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The recipe's folder, the one that holds the principles/ that it uses, `allow`, and those of the variable."""
    base = recipe_path.absolute().parent
    projects = []
    with suppress(PrincipleError):  # reported by what needs the principles
        projects.append(find_root(base).parent)
    variable = os.environ.get(VARIABLE, "").split(os.pathsep)
    named = [Path(os.path.expanduser(folder)) for folder in variable if folder.strip()]
    return tuple(dict.fromkeys(path.resolve() for path in (base, *projects, *allow, *named)))


def check_places(recipe: Recipe, recipe_path: Path, folders: Sequence[Path]) -> None:
    """Raises RecipeError where the recipe names a file or folder outside `folders` that --set did not give.

    What a query reads is not looked at here: it is shut in to `query_folders`.
    """
    check_models(recipe, folders)
    base = recipe_path.absolute().parent
    if not recipe.given("prompts.path"):
        for named in recipe.prompts.paths:
            for path, _ in files_of(named, base):
                _check("prompts.path", named, path, folders)
    if recipe.prompts.dataset and not recipe.given("prompts.dataset"):
        _check_dataset(recipe.prompts.dataset, base, folders)
    if recipe.templates and not recipe.given("templates"):
        named = f"{FOLDER}/{recipe.templates}"
        own = find_root(base).parent / named
        for path in (own, *sorted(own.glob("*.txt"))):
            _check("templates", named if path == own else f"{named}/{path.name}", path, folders, recipe.templates)


def _check_dataset(named: str, base: Path, folders: Sequence[Path]) -> None:
    path = base / named
    _check("prompts.dataset", named, path, folders)
    for inner in sorted(path.rglob("*")) if path.is_dir() else ():
        if inner.is_symlink():
            _check("prompts.dataset", f"{named}/{inner.relative_to(path)}", inner, folders)


def check_models(recipe: Recipe, folders: Sequence[Path]) -> None:
    """The same for the folders of local models and adapters alone."""
    for name, section in recipe.model.sections.items():
        for key, named in _named_by(section):
            path = Path(os.path.expanduser(named))
            if os.path.exists(path) and not recipe.given(f"model.{name}.{key}"):
                _check(f"model.{name}.{key}", named, path, (*folders, *_hub_cache(path)))


def query_folders(recipe: Recipe, folders: Sequence[Path]) -> Sequence[Path]:
    """Where `prompts.query` may read: anywhere if the user gave it."""
    return ANYWHERE if recipe.given("prompts.query") else folders


def _named_by(section: ModelSection) -> Iterator[tuple[str, str]]:
    """Fields of a local model's section that may name a folder, with what they hold."""
    if isinstance(section, TransformersModel | VLLMModel) and section.model not in SHIPPED:
        yield "model", section.model
    if isinstance(section, VLLMModel):
        if section.adapter is not None:
            yield "adapter", section.adapter
        for name, value in section.vllm.items():
            for text in _texts(value):
                if "/" in text:  # a word such as `auto` is an argument's value, whatever folders there are
                    yield f"vllm.{name}", text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _check(key: str, named: str, path: Path, folders: Sequence[Path], value: str = "") -> None:
    """value: what the recipe says, where that is not `named`."""
    real = Path(os.path.realpath(path))  # Path.resolve raises for a link to itself
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise RecipeError(
            f"{key}: {named} lies outside the recipe's project",
            hint=f"if it is yours, add --allow {real.parent}, or --set {key}={value or named}",
        )


def _hub_cache(path: Path) -> Iterator[Path]:
    """Where the hub's client keeps what it loads; asked only of a folder that exists."""
    from huggingface_hub.constants import HF_HUB_CACHE

    yield Path(HF_HUB_CACHE)
