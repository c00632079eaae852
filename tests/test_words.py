"""The field's words, in all that people read: help, messages, docs, recipes, flows, the audit's page.

One word for each thing, and none of the habits that a stranger to the project stumbles over. The texts of principles
are locked and speak of people; they are not looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from constitution.cli import app

ROOT = Path(__file__).parents[1]
WORDS = {
    r"settle[sd]?|settling": "relabel",
    r"ballots?": "vote",
    r"couples?": "order-averaged vote",
    r"intake": "admission",
    r"infractions?": "perturbation",
    r"fates?": "drop reason",
    r"left out|leaves? out|leaving out": "dropped, without",
    r"go(es)? on|going on|went on|gone on": "resumes, continues",
    r"of (its|their|his|her|our|your|one's) own": "its own",
    r"anew": "again",
    r"told of": "reported",
    r"put aside|puts aside": "quarantined",
    r"nobody|somebody|whoever|anybody|everybody": "who it is",
    r"at the most|at the least": "at most, at least",
    r"so many": "the number",
    r"stands? (in|at|below|above|beside|there)": "is",
    r"the same command goes": "the same command resumes",
}
"""What is not written → what is, as whole words, in any case."""
OF_THE_WORLD = (
    "engines/fake/world.py",
    "pocket/lexicon.py",
    "pocket/questions.py",
    "measures/refusals.py",
    "warehouse/upkeep/older.py",
)
"""Files whose strings are what models and people write, or older versions wrote: they are data."""
SEARCH = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
PAGES = [
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "README.md",
    *sorted(ROOT.glob("recipes/*.toml")),
    *sorted(ROOT.glob("flows/*.py")),
    *sorted(ROOT.glob("constitution/**/*.j2")),
]
CODE = sorted(ROOT.glob("constitution/**/*.py"))


def misused(text: str) -> list[str]:
    """The words that are not the field's, each with what is before and after it."""
    return [
        text[max(0, match.start() - 30) : match.end() + 20].replace("\n", " ").strip()
        for match in SEARCH.finditer(text)
    ]


def helps(command: click.Command, name: str = "constitution") -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            yield from helps(inner, f"{name} {each}")


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Those of modules, classes and functions, and those under fields."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            value = getattr(statement, "value", None)
            if isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def test_help() -> None:
    assert {name: found for name, text in helps(app) if (found := misused(text))} == {}


def test_messages() -> None:
    """Every string in the code that is no docstring; and no docstring begins with "Of"."""
    wrong = []
    for path in CODE:
        if str(path.relative_to(ROOT / "constitution")) in OF_THE_WORLD:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        about = {id(each) for each in docstrings(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = f"{path.relative_to(ROOT)}:{node.lineno}"
                if id(node) not in about:
                    wrong += [f"{name}: {each}" for each in misused(node.value)]
                elif node.value.startswith("Of "):
                    wrong.append(f"{name}: a docstring that begins with Of")
    assert wrong == []


@pytest.mark.parametrize("folder", ["docs", "recipes", "flows", "constitution", "README.md"])
def test_pages(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in PAGES
        if path.relative_to(ROOT).parts[0] == folder
        if path.name not in ("LOG.md", "CHANGELOG.md")  # they say what was tried, in the words of then
        if (wrong := misused(path.read_text(encoding="utf-8")))
    }
    assert found == {}
