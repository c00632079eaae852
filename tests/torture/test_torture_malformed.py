"""Everything that a person may give and that cannot be used: one sentence, exit code 1 or 2, nothing half written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import malformed_others
import malformed_prompts
import malformed_recipes
import pyarrow as pa
import pytest
from malformed import RECIPE, Case, Content, check, command, ids, project

CASES = [*malformed_recipes.CASES, *malformed_prompts.CASES, *malformed_others.CASES]
SOUND = '{"prompt": "one"}\n'


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_malformed(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Any) -> None:
    check(case, tmp_path, monkeypatch)
    torture.count("bad inputs")


@pytest.mark.parametrize(
    "case",
    [
        malformed_recipes.TYPES[0],
        malformed_recipes.FILES[2],
        malformed_others.CONSTITUTIONS[0],
        malformed_others.LABELS[5],
        malformed_others.QUERIES[2],
    ],
    ids=str,
)
def test_the_process_says_the_same(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    said = check(case, tmp_path / "here", monkeypatch)
    project(tmp_path, case.files)
    line = [sys.executable, "-c", "from constitution.cli import main; main()", *case.words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == case.exit_code
    assert done.stderr + (done.stdout if case.exit_code == 1 else "") == said


SOUND_FILES: dict[str, tuple[str, Content]] = {
    "a BOM": ("prompts.jsonl", b"\xef\xbb\xbf" + SOUND.encode()),
    "CRLF": ("prompts.jsonl", SOUND.replace("\n", "\r\n") * 2),
    "no line break at the end": ("prompts.jsonl", SOUND.strip()),
    "blank lines between": ("prompts.jsonl", f"\n\n{SOUND}\n \n{SOUND}"),
    "gz in several members": ("p.jsonl.gz", gzip.compress(SOUND.encode()) + gzip.compress(SOUND.encode())),
    "a line of 1 MB": ("prompts.jsonl", '{"prompt": "' + "x" * 2**20 + '"}'),
    "blanks and quotes in its name": ("a 'b' \"c\".jsonl", SOUND),
    "glob's characters in its name": ("a*[b]?%.jsonl", SOUND),
    "other letters in its name": ("поезд—列車.jsonl", SOUND),
    "texts of several kinds": ("prompts.jsonl", '{"prompt": "\\u0007 \\ud83d\\ude00 \u2028 \u200f \ue000"}\n'),
    "Parquet of a dictionary": ("p.parquet", malformed_prompts.table({"prompt": pa.array(["a"]).dictionary_encode()})),
    "Parquet of large texts": ("p.parquet", malformed_prompts.table({"prompt": pa.array(["a"], pa.large_string())})),
}


@pytest.mark.parametrize("name", SOUND_FILES)
def test_what_is_odd_and_sound_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = SOUND_FILES[name]
    bom = "\ufeff" if name == "a BOM" else ""
    recipe = bom + RECIPE.replace('"prompts.jsonl"', f"'''{path}'''").replace("\n", "\r\n" if name == "CRLF" else "\n")
    project(tmp_path, {"r.toml": recipe, path: content})
    code, _, err = command(("run", "r.toml"), tmp_path, monkeypatch)
    assert (tmp_path / "warehouse" / "prompts").is_dir(), err
    assert code in (0, 1)  # nothing was run: only prepared
