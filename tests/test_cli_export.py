"""`constitution export` from the command line, and its benchmark."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome
from export_runs import make_run

from constitution.cli import app
from constitution.errors import InputError
from constitution.export import CardOptions, Cleaning, Settings
from constitution.records import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return make_run(folder, "told", "principles = 2", prompts=20)


def call(folder: Path, *words: str) -> Outcome:
    return CliRunner().invoke(app, ["export", "--warehouse", str(folder / "warehouse"), *words])


def test_the_command_tells_what_became_of_all(folder: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "dpo"
    done = call(folder, "--format", "dpo", "--out", str(out), "--min-margin", "0.1", "--test", "0.2")
    assert done.exit_code == 0, done.output
    lines = {line.rsplit(maxsplit=1)[0].strip(): line.split()[-1] for line in done.output.splitlines()[1:] if line}
    counts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["counts"]
    assert int(lines["candidates"]) == counts["candidates"] == run.counts["preferences"]
    assert {name: int(lines[name]) for name in counts["kept"]} == counts["kept"]
    assert {why: int(lines[f"dropped: {why}"]) for why in counts["dropped"]} == counts["dropped"]
    assert "min-margin" in counts["dropped"]
    assert counts["candidates"] == sum(counts["kept"].values()) + sum(counts["dropped"].values())
    # The query that it prints counts the same.
    [command] = [line for line in done.output.splitlines() if "constitution sql" in line]
    _, *words = shlex.split(command)
    told = CliRunner().invoke(app, [*words, "--format", "json"])
    assert told.exit_code == 0, told.output
    counted = {row["drop_reason"] or row["split"]: row["count_star()"] for row in json.loads(told.output)}
    assert counted == {**counts["kept"], **counts["dropped"]}


@pytest.mark.parametrize(("format", "configs"), [("dpo", 1), ("robust", 3)])
def test_the_python_that_it_prints_loads_all_rows(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, configs: int
) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / 'it\'s "data"'
    shards = ("--shards", "3") if format == "robust" else ()
    done = call(folder, "--format", format, "--out", str(out), "--test", "0", "--dedupe", "off", *shards)
    *_, python = done.output.splitlines()
    _, _, code = shlex.split(python)
    found: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *words: found.append(words))
    monkeypatch.setattr("builtins.print", lambda *words: None)
    exec(code, {})
    entries = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["files"]
    named = {entry["config"] for entry in entries}
    assert len(named) == configs
    assert found == ([(str(out),)] if configs == 1 else [(str(out), name) for name in sorted(named)])


def test_every_option_is_a_setting(folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Settings, CardOptions, bool]] = []

    def note(root: Path, run_id: str, settings: Settings, out: Path, *, card: CardOptions, overwrite: bool) -> None:
        asked.append((settings, card, overwrite))
        raise InputError("noted")

    monkeypatch.setattr("constitution.cli.export.make", note)
    test_set = tmp_path / "eval.jsonl"
    test_set.touch()
    common = f"--where p>0 --test 0.1 --seed 7 --dedupe exact --near 0.7 --decontaminate {test_set} --overlap 0.4 "
    common += "--min-words 2 --max-words 90 --language en --language de --drop-refusals --harmless-tag kind "
    common += "--boilerplate 0.3 --drop-private --drop-broken --license cc0-1.0 --title Pairs --overwrite"
    cleaning = Cleaning(
        dedupe="exact", near=0.7, decontaminate=(test_set,), overlap=0.4, min_words=2, max_words=90,
        language=("en", "de"), drop_refusals=True, harmless_tag=("kind",), boilerplate=0.3, drop_private=True,
        drop_broken=True,
    )  # fmt: skip
    pairs = "--min-margin 0.1 --min-agreement 0.6 --consistent-only --rounds 1 --rounds 2 --principles a --principles b"
    pair = {
        "min_margin": 0.1,
        "min_agreement": 0.6,
        "consistent_only": True,
        "rounds": (1, 2),
        "principles": ("a", "b"),
    }
    cases: list[tuple[str, str, dict[str, object]]] = [
        ("dpo", f"{pairs} --labels sampled", {**pair, "labels": "sampled"}),
        ("robust", "--shards 7", {"shards": 7}),
        ("reward", "--clip 0.9", {"clip": 0.9}),
        ("sft", "--rounds all", {"rounds": "all"}),
        ("grpo", "", {}),
    ]
    for format, own, settings in cases:
        done = call(folder, run.run_id[:5], "--format", format, "--out", "x", *f"{common} {own}".split())
        assert str(done.exception) == "noted", done.output
        expected = Settings.model_validate(
            {"format": format, "where": "p>0", "test": 0.1, "seed": 7, "cleaning": cleaning, **settings}
        )
        assert asked.pop() == (expected, CardOptions(license="cc0-1.0", title="Pairs"), True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--format dpo --rounds some", "--rounds some: is none"),
        ("--format sft --min-margin 0.1", "--min-margin is for dpo, reward, robust alone, and the format is sft"),
        ("--format reward --labels sampled", "--labels is for dpo alone, and the format is reward"),
        ("nobody --format dpo", "nobody: there is no such run"),
        ("--format kto", "kto needs a judgement of each answer by itself"),
        ("--format dpo --public", "--public goes with --push"),
        ("--format dpo --warehouse nowhere", "nowhere: there is no warehouse here"),
    ],
)
def test_mistakes_are_said(folder: Path, run: Run, tmp_path: Path, words: str, said: str) -> None:
    done = call(folder, "--out", str(tmp_path / "out"), *words.split())
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)
    assert not (tmp_path / "out").exists()
