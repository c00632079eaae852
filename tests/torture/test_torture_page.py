"""The report's page: nothing of the data's making is in it, and nothing of the data's runs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_rows
import warehouse_rows
from conftest import Torture
from playwright.sync_api import Request, sync_playwright
from report_page import Page, differences
from test_report_browser import CHROMIUM, QUIET
from warehouse_rows import RUN

from constitution.audit.report import report
from constitution.records import Message, Prompt
from constitution.warehouse import Warehouse

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
        patch.setattr(warehouse_rows, "_filled", warehouse_rows._filled.__wrapped__)  # not that of other tests
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


ATTRIBUTES = re.compile(
    r"data-[a-z]+|aria-[a-z]+|xmlns(:xlink)?|xlink:href|[a-z]+[12]?(-[a-z]+)*|viewBox|clipPath", re.A
)


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
