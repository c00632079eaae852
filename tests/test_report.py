"""The report: every number against its own query, and what the page is made of."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from report_page import Page, differences
from report_rows import JUDGES, PRINCIPLES, audited, figures
from warehouse_rows import RUN, fill

from constitution.audit.answer import answer
from constitution.audit.report import headlines, report, summary
from constitution.audit.words import UNITS, Headline, tick
from constitution.errors import InputError
from constitution.records import Figure
from constitution.warehouse import Warehouse, connect


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited(tmp_path_factory.mktemp("audited")).root


@pytest.fixture(scope="module")
def html(root: Path) -> str:
    return report(root, RUN)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_number_is_the_answer_of_the_query_beside_it(page: Page, root: Path) -> None:
    assert differences(page, root) == []
    empty = {"self-preference", "pairs", "stability", "most-split", "changed-labels", "against-gold"}
    assert {name for name, exhibit in page.exhibits.items() if not exhibit.rows} == empty
    assert sum(len(exhibit.rows) for exhibit in page.exhibits.values()) > 200


def test_a_number_that_has_changed_since_is_found(html: str, tmp_path: Path) -> None:
    changed = [replace(f, value=(f.value or 0.0) + 1e-9) if f.figure == "position_bias" else f for f in figures()]
    warehouse = fill(tmp_path)
    warehouse.write_figures(RUN, changed)
    found = differences(Page(html), tmp_path)
    assert {line.split(",")[0] for line in found} == {"headline", "position-judges"}


def test_every_figure_with_a_value_is_in_the_page(page: Page) -> None:
    shown = {float(cell) for exhibit in page.exhibits.values() for row in exhibit.rows for cell in row if _number(cell)}
    left_out = {f.figure for f in figures() if f.value is not None and f.value not in shown}
    # The stages between are in the table of agreement, and have no curve of their own.
    assert left_out == {"reliability_predicted", "reliability_observed"}


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_an_exhibit_without_data_says_so_and_draws_nothing(page: Page) -> None:
    for exhibit in page.exhibits.values():
        assert exhibit.rows or not exhibit.drawings
    assert "No families are known: name them in the recipe (model.family)." in page.exhibits["self-preference"].text
    assert "No label is contradicted by gold." in page.exhibits["against-gold"].text
    assert [row[0] for row in page.exhibits["missing-figures"].rows] == ["kappa", "self_preference"]
    drawn = [name for name, exhibit in page.exhibits.items() if exhibit.drawings]
    assert len(drawn) == 13
    assert page.exhibits["reliability"].drawings == len(JUDGES)


def test_it_needs_nothing_but_itself(page: Page, html: str) -> None:
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    rest = html.replace("http://www.w3.org/1999/xlink", "").replace("http://www.w3.org/2000/svg", "")
    assert "://" not in rest
    assert "@import" not in rest
    assert all(target[1:] in page.ids for target in page.addresses if target.startswith("#"))


def test_it_begins_with_the_answer(root: Path, html: str, tmp_path: Path) -> None:
    lines = re.findall(r"<li>(.*)</li>", html.partition('<ul class="answer">')[2].partition("</ul>")[0])
    with connect(root) as connection:
        assert [unescape(line) for line in lines] == answer(headlines(connection, RUN))
    fill(tmp_path).write_figures(RUN, [Figure(RUN, "position_effect", 0.1, 9, 0.0, 0.2, "<i>")])
    assert "<code>constitution annotations import FILE</code>" in report(tmp_path, RUN)


def test_its_outline_is_sound(page: Page) -> None:
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(text for _, text in page.headings)
    assert len(page.ids) == len(set(page.ids))


def test_what_people_and_models_wrote_is_text(html: str, page: Page) -> None:
    assert "<b>not bold" not in html
    assert "&lt;b&gt;not bold&lt;/b&gt;" in html
    assert f">{PRINCIPLES[0]}<" not in html
    assert "llama-$mall" in page.exhibits["position-judges"].text


def test_the_same_figures_make_the_same_bytes(root: Path, html: str) -> None:
    assert report(root, RUN) == html


def test_chance_is_called_chance(page: Page) -> None:
    assert "No better than chance on 120 pairs." in page.exhibits["headline"].text
    one = Headline("alignment", "glm", "label", 0.52, 0.47, 0.57, 90, "")
    assert one.alarming
    assert one.verdict == "No better than chance."
    assert replace(one, low=0.51).verdict == ""
    assert replace(one, low=None, high=None).verdict == ""
    # The audit's own words stand for ours.
    assert replace(one, note="no better than chance on 90 pairs").verdict == "No better than chance on 90 pairs."


def test_an_open_run_is_called_unfinished(root: Path, html: str) -> None:
    assert "This run is not finished" in html
    warehouse = Warehouse(root)
    run = warehouse.read_run(RUN)
    assert run is not None
    warehouse.write_run(replace(run, finished_at="2026-11-22T10:05:00+00:00"))
    try:
        assert "This run is not finished" not in report(root, RUN)
    finally:
        warehouse.write_run(run)


def test_what_has_not_been_audited_has_no_report(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(InputError, match="has not been audited"):
        report(tmp_path, RUN)
    with pytest.raises(InputError, match="there is no such run"):
        report(tmp_path, "nobody's")


def test_a_run_of_which_nothing_could_be_measured_has_a_report(tmp_path: Path) -> None:
    fill(tmp_path).write_figures(
        RUN, [Figure(RUN, "alignment", None, 0, note="no gold: `constitution annotations import`")]
    )
    page = Page(report(tmp_path, RUN))
    assert differences(page, tmp_path) == []
    assert "None of these numbers could be measured" in page.exhibits["headline"].text
    assert "No gold: annotations import." in page.exhibits["alignment"].text
    assert not any(exhibit.drawings for exhibit in page.exhibits.values())


def test_the_summary_is_a_table_and_sentences(root: Path) -> None:
    text = summary(root, RUN)
    assert text.startswith(f"# Audit of {RUN}\n")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.count("|") == 7 for line in lines)
    assert text.splitlines()[2].startswith("- The votes say little: ")
    assert "\n- Held against gold on " in text


@pytest.mark.parametrize(
    ("unit", "value", "written", "on_axis"),
    [
        ("share", 0.5, "50.0 %", "50 %"),
        ("share", 0.125, "12.5 %", "12.5 %"),
        ("share", -0.2, "−20.0 %", "−20 %"),
        ("points", 0.031, "+3.1 points", "+3.1 points"),
        ("logit", 0.0, "0.00", "0"),
        ("logit", -1.5, "−1.50", "−1.5"),
        ("logit", 10.0, "+10.00", "+10"),
        ("count", 1200.0, "1,200", "1,200"),
        ("number", 0.731, "0.73", "0.73"),
    ],
)
def test_how_numbers_are_written(unit: str, value: float, written: str, on_axis: str) -> None:
    write = UNITS[unit]  # type: ignore[index]
    assert write(value).replace("\N{NO-BREAK SPACE}", " ") == written
    assert tick(write)(value, None).replace("\N{NO-BREAK SPACE}", " ") == on_axis
