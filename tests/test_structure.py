"""The shape of the code: who imports whom, and how large things grow. Each case names all that breaks its rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "constitution"
LAYERS = """
identity errors lazy reading sandbox secrets shown writing measures records principles documents templates overrides
recipe prompts engines generate judge labels warehouse telemetry pipeline ask propose audit export trial train api
scheduling cli __main__ pocket
"""
ORDER = LAYERS.split()
"""A module imports only from those before it."""
LATE = {"__init__", "api", "cli", "scheduling", "export/__init__.py", "telemetry/__init__.py", "templates/__init__.py",
        "warehouse/remote/__init__.py", "warehouse/store.py"}  # fmt: skip
"""Where a module of ours may be imported late, for the sake of start-up time: parts, and single files of others."""
HEAVY = {"torch", "transformers", "vllm", "prefect", "datasets"}
FILES = sorted(PACKAGE.rglob("*.py"))
OTHERS = sorted(
    path for folder in ("flows", "rehearsal", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*FILES, *OTHERS)}


def part(path: Path) -> str:
    """The top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def place(name: str) -> int:
    assert name in ORDER, f"constitution/{name} has no place in LAYERS"
    return ORDER.index(name)


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "constitution":
                yield from ((f"constitution.{name.name}", node) for name in node.names)
            else:
                yield node.module, node


def test_imports_run_one_way() -> None:
    """The package's own __init__, which is the public API, may import all."""
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if part(path) != "__init__"
        for name, _ in imports(TREES[path])
        if name.startswith("constitution.") and name != "constitution.__version__"
        if place(name.split(".")[1]) > place(part(path))
    ]
    assert upward == []


def test_heavy_packages_wait_and_our_own_modules_do_not() -> None:
    """But for Prefect in what the flows share; and for our own where LATE says so."""
    wrong = []
    for path in FILES:
        tree = TREES[path]
        typing = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        type_checking = {id(node) for block in typing for node in block.body}
        top = {id(node) for node in tree.body}
        for name, node in imports(tree):
            package = name.split(".")[0]
            if id(node) in type_checking:
                continue
            if package in HEAVY and id(node) in top and (package, part(path)) != ("prefect", "scheduling"):
                wrong.append(f"{path.relative_to(ROOT)} imports {name} at the top")
            late = package == "constitution" and id(node) not in top
            if late and not LATE & {part(path), str(path.relative_to(PACKAGE))}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name} late")
    assert wrong == []


def test_sizes() -> None:
    """Files of 400 lines, functions of 60, 7 parameters beside self, at most."""
    large = []
    for path, tree in TREES.items():
        name = path.relative_to(ROOT)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400:
            large.append(f"{name}: {lines} lines")
        if path in OTHERS and name.parts[0] != "flows":
            continue  # of benchmarks, rehearsals and tests only the files
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                if lines > 60 or count > 8:  # 7 and self
                    large.append(f"{name}: {node.name}: {lines} lines, {count} parameters")
    assert large == []


def test_the_library_knows_nothing_of_prefect() -> None:
    """But for what the flows share, which only they and the command line import."""
    knowing = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name, _ in imports(TREES[path])
        if (name.split(".")[0] == "prefect" and part(path) not in ("cli", "scheduling"))
        or (name.startswith("constitution.scheduling") and part(path) not in ("cli", "scheduling"))
    ]
    assert knowing == []
