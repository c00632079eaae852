"""What shows the data to people: CSV, terminals, Markdown; and texts that would run, steer or break it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import report_rows
import warehouse_rows
import yaml  # type: ignore[import-untyped]
from conftest import Torture
from hypothesis import given
from hypothesis import strategies as st
from judging_rows import Scene
from markdown_it import MarkdownIt
from test_card import facts
from warehouse_rows import RUN

from constitution.audit.summary import headlines, scorecard_lines, summary
from constitution.cli import main, principles_impact
from constitution.cli.audit import _show as tell_audit
from constitution.export import CardOptions
from constitution.export.card import card
from constitution.pipeline.report import report as told_of
from constitution.records import Constitution, Principle, Usage
from constitution.shown import from_spreadsheet, printable, spreadsheet
from constitution.warehouse import connect
from constitution.warehouse.annotations import read_annotations

# --- CSV

FORMULAS = (
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://127.0.0.1:9/?"&A1,"x")',
    "+1+1",
    "+cmd|'x'!A0",
    "-1+1",
    "-2+3+cmd",
    "@SUM(1+1)",
    "@x",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "=",
    "-",
    "+",
    "@",
    "- a list",
    "'=1+1",
    "''@x",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(1)",
    "=\x00",
    "-1+1\n=2",
    "=1,=2",
    '="a""b"',
    "%0A=1+1",
    "=1;=2",
)
PLAIN = ("-5", "+1.5", "-1e9", "3,5", "a=1", " =1", "'", "''", "", "x", "1-1", "“=”", "-12.5%", "NULL", "\\=1")
RUNS = tuple("=+-@\t\r\n＝＋－＠")


def parsed(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def asked(words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command says."""
    monkeypatch.setattr(sys, "argv", ["constitution", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code in (0, 1, 2)
    return str(said.out + said.err)


def test_no_cell_of_a_csv_is_a_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture, capsys: Any
) -> None:
    scene = Scene()
    for number, text in enumerate((*FORMULAS, *PLAIN)):
        scene.pair(a=text, b=f"answer {number}")
    scene.write(tmp_path)
    out = tmp_path.parent / f"{tmp_path.name}.csv"
    query = "SELECT text, -1.5 AS n, -2 AS m, ['=1'] AS l, {'a': '=1'} AS s, '=1'::BLOB AS b FROM responses"
    words = ["sql", "--format", "csv", "--spreadsheet-safe", "--out", str(out), query, "--warehouse", str(tmp_path)]
    asked(words, capsys, monkeypatch)
    head, *rows = parsed(out.read_bytes().decode())
    assert head == ["text", "n", "m", "l", "s", "b"]
    stored = {row[0] for row in rows}
    assert not [cell for cell in stored if cell.startswith(RUNS) and cell not in PLAIN]
    assert {from_spreadsheet(cell) for cell in stored} >= {*FORMULAS, *PLAIN}
    assert stored >= set(PLAIN)  # numbers stay numbers, and texts that do nothing stay as they are
    assert {tuple(row[1:]) for row in rows} == {("-1.5", "-2", '["=1"]', '{"a": "=1"}', "PTE=")}
    torture.count("attacks on the rest", len(FORMULAS))


def test_the_heads_of_a_csv_are_no_formulas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture, capsys: Any
) -> None:
    _one_pair(tmp_path)
    words = ["sql", "--format", "csv", "--spreadsheet-safe", 'SELECT 1 AS "=1+1"', "--warehouse", str(tmp_path)]
    said = asked(words, capsys, monkeypatch)
    assert parsed(said) == [["'=1+1"], ["1"]]
    torture.count("attacks on the rest")


def _one_pair(root: Path) -> None:
    scene = Scene()
    scene.pair(a="one", b="two")
    scene.write(root)


@given(st.text(st.characters(codec="utf-8"), max_size=12) | st.text("=+-@'\t\r\n1 ＝", max_size=6))
def test_every_text_comes_back_and_none_is_a_formula(text: str) -> None:
    cell = spreadsheet(text)
    assert from_spreadsheet(cell) == text
    assert not cell.startswith(RUNS) or re.fullmatch(r"[+-][\d.,]+([eE][+-]?\d+)?%?", cell)


def test_labels_come_back_from_the_csv_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture, capsys: Any
) -> None:
    """Raters that would be formulas: exported, imported again, nothing new."""
    root = tmp_path / "warehouse"
    _one_pair(root)
    raters = [text for text in (*FORMULAS, *PLAIN) if text.strip() == text and text and "\x00" not in text]
    raters = raters if torture.full else raters[::5]
    pair = next(iter(parsed(asked(["sql", "--format", "csv", "SELECT id FROM preferences", "--warehouse", str(root)],
                                  capsys, monkeypatch))[1:]))[0]  # fmt: skip
    lines = [json.dumps({"pair_id": pair, "value": 1, "rater": rater}) for rater in raters]
    (tmp_path / "first.jsonl").write_text("\n".join(lines), encoding="utf-8")
    asked(["annotations", "import", str(tmp_path / "first.jsonl"), "--warehouse", str(root)], capsys, monkeypatch)
    query = "SELECT pair_id, value, rater FROM annotations"
    out = tmp_path / "first.csv"
    words = ["sql", "--format", "csv", "--spreadsheet-safe", "--out", str(out), query, "--warehouse", str(root)]
    asked(words, capsys, monkeypatch)
    assert "'=1+1" in out.read_text(encoding="utf-8")
    assert {label.rater for label in read_annotations(root, out, spreadsheet_safe=True).annotations} == set(raters)
    words = ["annotations", "import", "--spreadsheet-safe", str(out), "--warehouse", str(root)]
    said = asked(words, capsys, monkeypatch)
    assert f"{len(raters)} annotations" in said
    counted = asked(["sql", "--format", "csv", "SELECT count(DISTINCT id), count(DISTINCT rater) FROM annotations",
                     "--warehouse", str(root)], capsys, monkeypatch)  # fmt: skip
    assert parsed(counted)[1] == [str(len(raters))] * 2
    torture.count("round trips", len(raters))


def test_the_impacts_csv_has_no_formulas(tmp_path: Path, torture: Torture) -> None:
    def shift(text: str) -> Any:
        pair = SimpleNamespace(id="i", kind="first-last", a=SimpleNamespace(prompt_id="p", text=text),
                               b=SimpleNamespace(text=text))  # fmt: skip
        one = SimpleNamespace(p_b=0.25)
        prompt = SimpleNamespace(messages=(SimpleNamespace(content=text),))
        return SimpleNamespace(pair=pair, prompt=prompt, old=one, new=one, change=-0.5, flips=False)

    found = cast(Any, SimpleNamespace(shifts=tuple(map(shift, FORMULAS))))
    principles_impact._write(tmp_path / "impact.csv", found, safe=True)
    _, *rows = parsed((tmp_path / "impact.csv").read_bytes().decode())
    assert [tuple(map(from_spreadsheet, row[-3:])) for row in rows] == [(text,) * 3 for text in FORMULAS]
    assert not [cell for row in rows for cell in row if cell.startswith(RUNS) and cell != "-0.5"]
    torture.count("attacks on the rest", len(FORMULAS))


# --- terminals

STEERING = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\x1b[1A\x1b[2Kall is well",
    "\x1b[?1049h",
    "\x1b]8;;http://127.0.0.1:9\x1b\\x",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1bc",
    "\x9b31m",
    "\x9d0;owned\x9c",
    "\x90q\x9c",
    "\x07\x08\x08",
    "safe\rEVIL",
    "a\x7fb",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200b\u200d\ufeff",
    "\x0b\x0c\x1c\x1d\x85\u2028\u2029",
    "\udb40\udc41",
    "[bold red]x[/]",
    "[link=http://127.0.0.1:9]x[/link]",
    "[/]",
    "\\[x]",
)
EVERY = " ".join(text for text in STEERING if not any(0xD800 <= ord(char) <= 0xDFFF for char in text))


def check_terminal(said: str, *among: str) -> None:
    steers = {char for char in said if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not steers, said
    # It was there, and was shown: as escapes, on one line.
    for text in among:
        assert printable(text).replace(" ", "") in said.replace(" ", "").replace("\n", ""), said


def test_what_is_printed_does_not_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "4000")
    root = tmp_path / "warehouse"
    of_run, figures = warehouse_rows.run, report_rows.figures

    def run(*given: Any, **more: Any) -> Any:
        engines = {"policy": {"calls": 1, "state": EVERY, "events": [EVERY], "endpoints": []}}
        models = {"policy": {"name": EVERY, "engine": EVERY}}
        return replace(of_run(*given, **more), models=models, engines=engines, constitution=EVERY, stopped=EVERY)

    monkeypatch.setattr(warehouse_rows, "run", run)
    monkeypatch.setattr(warehouse_rows, "_filled", warehouse_rows._filled.__wrapped__)  # not that of other tests
    hostile = [replace(each, judge=each.judge and EVERY, note=each.note and EVERY) for each in figures()]
    distinct = {(each.figure, each.principle_id, each.subject): each for each in hostile}
    monkeypatch.setattr(report_rows, "figures", lambda: list(distinct.values()))
    report_rows.audited(root)
    where = ["--warehouse", str(root)]
    literal = "'" + EVERY.replace("'", "''") + "'"
    for words in (
        ["runs", *where],
        ["sql", f'SELECT 1 AS "{EVERY}"', *where],
        ["sql", f"SELECT [{literal}] AS x, {{'a': {literal}}} AS y", *where],
    ):
        check_terminal(asked(words, capsys, monkeypatch))
    check_terminal(asked(["runs", RUN, *where], capsys, monkeypatch), EVERY)
    with connect(root) as connection:
        tell_audit("", headlines(connection, RUN))
        tell_audit("scorecard", scorecard_lines(connection, RUN))
    check_terminal("".join(capsys.readouterr()), EVERY)
    torture.count("attacks on the rest", len(STEERING))


def test_errors_and_principles_do_not_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture, capsys: Any
) -> None:
    (tmp_path / "principles" / "odd").mkdir(parents=True)
    (tmp_path / "principles" / "principles.lock").write_text("", encoding="utf-8")
    said = json.dumps(EVERY).replace("\\ud", "\\\\ud")
    text = f'name = "odd"\nversion = "1.0.0"\ndescription = {said}\nsource = {said}\n[[principle]]\nid = "a"\n'
    text += f"tags = []\ncritique_request = {said}\nrevision_request = {said}\ncomparison_question = {said}\n"
    (tmp_path / "principles" / "odd" / "1.0.0.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for words in (
        ["principles", "show", "odd"],
        ["principles", "list"],
        ["principles", "check"],
        ["principles", "show", EVERY],
        ["run", f"{EVERY}.toml"],
        ["runs", EVERY],
        ["sql", f"SELECT {EVERY}"],
        ["annotations", "import", f"{EVERY}.csv"],
        ["export", EVERY, "--format", "dpo", "--out", "x"],
        [EVERY],
        ["run", "x.toml", f"--{EVERY}"],
    ):
        check_terminal(asked(words, capsys, monkeypatch))
        torture.count("attacks on the rest")


# --- Markdown

MARKS = (
    "| a | b |",
    "<b>x</b>",
    "<script>x</script>",
    "<img src=x onerror=y>",
    "[x](javascript:y)",
    "![x](http://127.0.0.1:9)",
    "`code`",
    "```\nx\n```",
    "# heading",
    "\n\n# heading\n\n",
    "- item",
    "1. item",
    "> quote",
    "---",
    "\n---\nlicense: mit\n",
    "***x***",
    "~~x~~",
    "<http://127.0.0.1:9>",
    "[x]: http://127.0.0.1:9",
    "&lt;b&gt;",
    "\\<b\\>",
    "\\",
    "\\|",
    "$x$",
    "<!-- x",
    "<details open ontoggle=x>",
    ": x",
    "{{ 7*7 }}",
    "{% x %}",
    "!!python/object/apply:os.system [x]",
    "&a [*a,*a]",
    "\x85\u2028x",
)


def tokens(text: str) -> Iterator[str]:
    """Kinds of what a Markdown reader finds, with HTML let through."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        yield token.type
        yield from (child.type for child in token.children or ())


def shape(text: str) -> list[str]:
    return [kind for kind in tokens(text) if kind not in ("text", "text_special", "softbreak")]


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_in_the_data_is_none_in_the_markdown(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    """Prefect's artifacts and the card, with the mark in every text of the data, are of the shape that they are with a
    letter in its place."""

    def run(text: str) -> Any:
        engines = {"policy": {"calls": 1, "state": text, "events": [text, f"a{text}"]}}
        usage = (_usage(text),) * 2
        found = warehouse_rows.run()
        models = {role: {**about, "name": text, "engine": text} for role, about in found.models.items()}
        return replace(found, models=models, engines=engines, constitution=text, stopped=text, usage=usage)

    def carded(text: str) -> str:
        principles = (Principle("kind", text, text, text, 1.0, (text,), text),)
        constitution = Constitution("general", "1.1.0", text, principles, (), text, text)
        known = facts(run=replace(run(text), run_id=RUN, recipe={"name": text, "prompts": {"path": f"x/{text}y"}}),
                      constitution=constitution, dropped={"tie": 1})  # fmt: skip
        return card(known, CardOptions(title=text))

    assert shape(told_of(run(mark))) == shape(told_of(run("x")))
    hostile, harmless = carded(mark), carded("x")
    (_, header, body), (_, plain_header, plain_body) = (text.split("---\n", 2) for text in (hostile, harmless))
    assert shape(body) == shape(plain_body)
    read, plain = yaml.safe_load(header), yaml.safe_load(plain_header)
    assert {**read, "pretty_name": 0} == {**plain, "pretty_name": 0}
    assert read["pretty_name"] == " ".join(mark.split())
    torture.count("attacks on the rest")


def _usage(text: str) -> Any:
    return Usage(text, text, 1, 2, 1, 3)


@pytest.mark.torture
def test_the_audits_artifact_is_markdown_of_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    figures, shapes = report_rows.figures, []
    for number, text in enumerate(("x", "".join(f" {mark}" for mark in MARKS))):
        dress = [replace(each, judge=each.judge and each.judge + text, note=text) for each in figures()]
        with monkeypatch.context() as patch:
            patch.setattr(report_rows, "figures", lambda dress=dress: dress)
            root = report_rows.audited(tmp_path / str(number)).root
        shapes.append(shape(summary(root, RUN)))
    assert shapes[0] == shapes[1]
    assert "table_open" in shapes[0]
    torture.count("attacks on the rest", len(MARKS))


def test_the_marks_are_marks() -> None:
    """Unescaped, most of them change what a reader finds."""
    assert sum(shape(f"x\n\n{mark}\n") != shape("x\n\nx\n") for mark in MARKS) > len(MARKS) / 2
