"""The shape of the code: who imports whom, and how large things grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "constitution"
# A module imports only from those above it.
ORDER = (
    *(
        "identity",
        "errors",
        "reading",
        "interrupts",
        "sandbox",
        "secrets",
        "shown",
        "writing",
        "measures",
        "records",
        "principles",
        "templates",
        "overrides",
        "recipe",
    ),
    *(
        "prompts",
        "engines",
        "generate",
        "judge",
        "labels",
        "warehouse",
        "pipeline",
        "ask",
        "audit",
        "export",
        "scheduling",
        "cli",
        "pocket",
    ),
)
HEAVY = {"torch", "transformers", "vllm", "prefect", "datasets"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The top-level module that a file belongs to; the package's own __init__ counts as the first."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "constitution":
                yield from ((f"constitution.{name.name}", node) for name in node.names)
            else:
                yield node.module, node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    tree = ast.parse(path.read_text())
    own = part(path)
    if own == "__init__":
        return
    for name, _ in imports(tree):
        pieces = name.split(".")
        if pieces[0] == "constitution" and len(pieces) > 1 and pieces[1] != "__version__":
            assert ORDER.index(pieces[1]) <= ORDER.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_wait_and_our_own_modules_do_not(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    type_checking = {
        id(node)
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
    }
    for name, node in imports(tree):
        at_top = id(node) in top
        if id(node) in type_checking:
            continue
        if name.split(".")[0] in HEAVY and (name.split(".")[0], part(path)) != ("prefect", "scheduling"):
            assert not at_top, f"{name} is imported at the top"
        if name.split(".")[0] == "constitution":
            assert at_top, f"{name} is imported late"


@pytest.mark.parametrize("path", FILES + sorted((ROOT / "flows").glob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, "file too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            arguments = node.args
            count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
            assert lines <= 60, f"{node.name}: {lines} lines"
            assert count <= 8, f"{node.name}: {count} parameters"  # 7 and self


def test_the_library_knows_nothing_of_prefect() -> None:
    """But for what the flows share, which only they import."""
    for path in FILES:
        if part(path) in ("cli", "scheduling"):
            continue
        assert all(name.split(".")[0] != "prefect" for name, _ in imports(ast.parse(path.read_text()))), path
    for path in FILES:
        assert all(name != "constitution.scheduling" for name, _ in imports(ast.parse(path.read_text()))), path
