"""The report and the summary: every number against its own query, what each interval is read as, what the page is made
of."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from report_page import Page, differences
from report_rows import JUDGES, PRINCIPLES, audited, figures
from warehouse_rows import RUN, fill

from constitution.audit.kinds import KINDS, Unit, written
from constitution.audit.report import report
from constitution.audit.summary import Headline, headlines, summary
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
    assert all(exhibit.rows for exhibit in page.exhibits.values())
    assert {"self-preference", "repetition-stability", "most-split", "against-gold"}.isdisjoint(page.exhibits)
    shown = {cell for exhibit in page.exhibits.values() for row in exhibit.rows for cell in row}
    made = {f.figure: {repr(f.value), f"{f.value:.0f}"} for f in figures() if f.value is not None}
    assert [figure for figure, value in made.items() if not value & shown] == []


def test_a_number_that_has_changed_since_is_found(html: str, tmp_path: Path) -> None:
    changed = [replace(f, value=(f.value or 0.0) + 1e-9) if f.figure == "position_bias" else f for f in figures()]
    fill(tmp_path).write_figures(RUN, changed)
    found = differences(Page(html), tmp_path)
    assert {line.split(",")[0] for line in found} == {"headline", "position-bias"}


def test_what_is_not_measured_is_one_line_for_each_reason(page: Page) -> None:
    [[names, note]] = page.exhibits["missing"].rows
    assert names == "kappa, self_preference"
    assert note.startswith("no families are known")
    assert "Cohen's κ with gold; Self-preference" in page.exhibits["missing"].text


def test_drawings_have_a_unit_and_n(page: Page) -> None:
    assert page.exhibits["reliability"].drawings == len(JUDGES)
    assert "n = " in page.exhibits["reliability"].text
    assert page.exhibits["phi"].drawings == 1
    effect = page.exhibits["position-effect"]
    assert effect.drawings == len(effect.rows)
    assert "log-odds" in effect.text


def test_the_page_is_sound_and_needs_nothing_but_itself(page: Page, html: str, root: Path) -> None:
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "://" not in html
    assert "@import" not in html
    assert all(target[1:] in page.ids for target in page.addresses if target.startswith("#"))
    levels = [level for level, _ in page.headings]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(text for _, text in page.headings)
    assert len(page.ids) == len(set(page.ids))
    assert report(root, RUN) == html


def test_what_people_and_models_wrote_is_text(html: str, page: Page) -> None:
    assert "<b>not bold" not in html
    assert "&lt;b&gt;not bold&lt;/b&gt;" in html
    assert f">{PRINCIPLES[0]}<" not in html
    assert "llama-$mall" in page.exhibits["position-bias"].text


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


def test_a_run_that_was_not_audited_or_not_measured(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    with pytest.raises(InputError, match="has not been audited"):
        report(tmp_path, RUN)
    with pytest.raises(InputError, match="there is no such run"):
        report(tmp_path, "another")
    warehouse.write_figures(RUN, [Figure(RUN, "ties", None, 0, note="no votes")])
    page = Page(report(tmp_path, RUN))
    assert differences(page, tmp_path) == []
    assert "None of the chief figures could be measured" in page.exhibits["headline"].text
    warehouse.write_figures(RUN, [Figure(RUN, "alignment", None, 0, note="no gold: `constitution audit`")])
    assert "not measured: no gold: <code>constitution audit</code>" in report(tmp_path, RUN)


def test_the_summary_is_a_table(root: Path) -> None:
    text = summary(root, RUN)
    assert text.startswith(f"# Audit of {RUN}\n")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.count("|") == 7 for line in lines)
    first = "".join(lines[1:4])  # what puts the labels in doubt
    assert "the position decides more votes" in first
    assert "prefers answers that are wrong but polished" in first


@pytest.mark.parametrize(
    ("figure", "subject", "value", "interval", "reading", "alarming"),
    [
        ("alignment", "label", 0.98, (0.95, 1.0), "", False),
        ("alignment", "label", 0.7, (0.45, 1.0), "no better than chance", True),
        ("alignment", "label", 0.3, (0.2, 0.4), "worse than chance", True),
        ("alignment", "label", 0.98, None, "", False),
        ("ece", "label", 0.16, (0.15, 0.17), "calibrate before use as soft labels", False),
        ("ece", "label", 0.04, (0.01, 0.06), "", False),
        ("position_effect", "", 0.6, (0.4, 0.8), "prefers the first position", False),
        ("position_effect", "", -0.6, (-0.8, -0.4), "prefers the second position", False),
        ("position_effect", "", 0.1, (-0.1, 0.3), "none detected", False),
        ("style_effect", "length", -0.2, (-0.3, -0.1), "prefers shorter answers", False),
        ("perturbation_penalty", "polished", 0.9, (0.8, 1.0), "", False),
        ("perturbation_penalty", "polished", 0.2, (0.1, 0.3), "prefers answers that are wrong but polished", True),
        ("self_preference", "", 0.1, (0.05, 0.2), "prefers its own family", False),
        ("alpha", "judges", 0.1, (-0.1, 0.3), "no better than chance", True),
        ("label_mass", "", 0.31, (0.3, 0.32), "answers with other words than the labels it is asked for", True),
        ("scorecard_label_mass", "", 0.0, (0.0, 0.0), "answers with other words than yes and no", True),
        ("votes_missing", "", 252.0, None, "counted for neither answer", False),
    ],
)
def test_what_an_interval_is_read_as(
    figure: str, subject: str, value: float, interval: tuple[float, float] | None, reading: str, alarming: bool
) -> None:
    low, high = interval or (None, None)
    one = Headline(figure, "qwen", subject, value, low, high, 90, "")
    assert (one.reading, one.alarming) == (reading, alarming)
    assert replace(one, note="as the audit says: " + reading).reading.count(reading or "audit") == 1


def test_the_summary_leaves_out_what_is_in_order(root: Path, tmp_path: Path) -> None:
    masses = {"label_mass": 0.95, "scorecard_label_mass": 0.2, "position_bias": 0.1, "votes_missing": 0.0}
    fill(tmp_path).write_figures(RUN, [Figure(RUN, name, value, 9, judge="q") for name, value in masses.items()])
    with connect(tmp_path) as connection:
        assert [one.figure for one in headlines(connection, RUN)] == ["scorecard_label_mass", "position_bias"]


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("share", 0.125, "12.5 %"),
        ("share", -0.2, "−20.0 %"),
        ("points", 0.031, "+3.1 points"),
        ("log-odds", 0.001, "0.00"),
        ("log-odds", -1.5, "−1.50"),
        ("count", 1200.0, "1,200"),
        ("number", 0.731, "0.73"),
        ("share", None, "–"),
    ],
)
def test_how_numbers_are_written(unit: Unit, value: float | None, text: str) -> None:
    assert written(value, unit).replace("\N{NO-BREAK SPACE}", " ") == text


def test_every_kind_says_what_it_is() -> None:
    for kind in KINDS.values():
        assert kind.says, kind
        assert kind.n, kind
        assert kind.title, kind
        assert not kind.says.endswith("."), kind
        for level in kind.by:
            assert set(level) <= {"judge", "principle_id", "subject"}, kind
