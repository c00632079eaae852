"""The benchmarks' own arithmetic: a broken promise is a FAIL, and what they measure is what they say.

Their long versions are `make bench-…` and `make proof`.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import growth_feed, results
from benchmarks.engine import Trial
from benchmarks.engine import verdicts as engine_verdicts
from benchmarks.export import Result as Exported
from benchmarks.export import main as export
from benchmarks.judges import measure, settings
from benchmarks.judges_report import EFFECTS, Effect, Result, Setting, tables
from benchmarks.judges_report import verdicts as judges_verdicts
from benchmarks.results import Table, Verdict, finish, put_into, section
from benchmarks.scale import run_table, run_verdicts, votes_table, votes_verdicts
from benchmarks.scale_rows import VOTES, make
from benchmarks.scale_run import apart
from benchmarks.scale_votes import QUESTIONS, beside, one_file
from benchmarks.torture import table as torture_table
from benchmarks.vllm_outcome import Call, Outcome, agreement, figures, hit_rates, reusable
from benchmarks.vllm_outcome import note as vllm_note
from benchmarks.vllm_outcome import table as vllm_table
from benchmarks.vllm_outcome import verdicts as vllm_verdicts
from benchmarks.vllm_shapes import SHAPES, Job
from constitution.recipe import VLLMModel
from constitution.warehouse import ask, connect

ROOT = Path(__file__).parents[1]


def failed(verdicts: Any) -> list[str]:
    return [verdict.what for verdict in verdicts if not verdict.passes]


# --- the writer of results


def test_a_results_file_is_all_that_a_section_of_the_page_needs(tmp_path: Path) -> None:
    out, page = tmp_path / "made.json", tmp_path / "page.md"
    page.write_text("before\n<!-- made: by hand -->\nstale\n<!-- /made -->\nafter\n", encoding="utf-8")
    kept = Verdict("wall", 0.123456, 1.0)
    finish(out, page, [Table(["client", "s"], [["ours", "1"]], "Speed")], [kept], ["A note."])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- made: by hand -->\nMeasured 20")
    assert text.endswith("1 of 1 promises kept.\n<!-- /made -->\nafter\n")
    assert "**Speed**\n\n| client | s |\n|---|--:|\n| ours | 1 |\n\nA note.\n" in text
    assert "stale" not in text
    with pytest.raises(SystemExit):
        finish(out, page, [], [replace(kept, at_most=False)])
    assert section(json.loads(out.read_text(encoding="utf-8"))) in page.read_text(encoding="utf-8")
    assert put_into("page", "new", "text") == "page\n\n<!-- new -->\ntext\n<!-- /new -->\n"


@pytest.mark.parametrize("path", sorted(results.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_results_file_makes_a_section(path: Path) -> None:
    assert section(json.loads(path.read_text(encoding="utf-8"))).startswith("Measured 20")


# --- promises


def trial(client: str, **figures: float) -> Trial:
    sound = Trial(client, 1000, 10.0, 2.0, 0.5, 0.5, 100.0, 9.0, 0.8, 5000, 0.5, 15.0, 1.0, {})
    return replace(sound, **figures)  # type: ignore[arg-type]


def test_the_engine_is_compared_by_medians_with_the_bare_loop() -> None:
    fast = [trial("bare", cpu_s=cpu) for cpu in (2.0, 2.0, 9.0)]
    fast += [trial("ours", cpu_s=cpu, wall_s=20.0) for cpu in (1.0, 3.0, 30.0)]
    speed, cpu = engine_verdicts({"fast": fast})
    assert (speed.measured, speed.passes) == (0.5, False)
    assert (cpu.measured, cpu.passes) == (1.5, True)
    [memory] = engine_verdicts({"memory": [trial("ours"), trial("ours", prompts=10_000, peak_rss_mib=121.0)]})
    assert (memory.measured, memory.passes) == (1.21, False)


def test_a_call_of_a_group_is_compared_with_one_of_the_chain_and_its_prefixes_with_all_that_there_are() -> None:
    fast = [trial("bare", utilisation=0.8), trial("ours", utilisation=0.6, cpu_s=3.0)]
    samples = [trial("bare", utilisation=0.9), trial("ours", utilisation=0.72, cpu_s=20.0, replies=64_000, cached=0.9)]
    parts = {"samples": samples, "prefixes": [trial("ours", cached=1.0)]}
    assert [each.what for each in engine_verdicts(parts)] == []
    cpu, lost, hits = engine_verdicts({**parts, "fast": fast})[2:]
    for verdict, measured, passes in ((cpu, 20 / 64 / 3 * 5, True), (lost, 0.2 - 0.25, True), (hits, 0.9, False)):
        assert verdict.measured == pytest.approx(measured)
        assert verdict.passes is passes


def test_a_wide_window_that_costs_calls_or_memory_breaks_the_promises_of_growth() -> None:
    fed = {name: [trial("ours", prompts=part.window)] for name, part in growth_feed.PARTS.items()}
    assert not failed(growth_feed.verdicts(fed))
    assert growth_feed.table(fed).rows[0] == ["16", "2,500", "7.5", "556", "400", "100", "200"]
    wide = fed[growth_feed.WIDE][0]
    for broken in (replace(wide, cpu_s=3.0), replace(wide, peak_rss_mib=500.0)):
        assert len(failed(growth_feed.verdicts({**fed, growth_feed.WIDE: [broken]}))) == 1


def test_growth_leaks_losses_and_slow_resumes_break_the_promises_of_scale() -> None:
    marks = [{"done": n, "seconds": n, "cpu_seconds": n, "rss_mib": 200.0, "left": 10 - n} for n in range(1, 11)]
    run: dict[str, Any] = {"prompts": 1000, "prepared": [1, 1], "seconds": 10, "cpu_seconds": 10, "at_work": [3, 3]}
    run |= {"peak_mib": 250.0, "marks": marks}
    sound = {"small": run, "large": run, "resumed": run, "wrong": 0}
    assert not failed(run_verdicts(sound))
    assert run_table(sound)
    for broken in ({"large": {**run, "peak_mib": 326.0}}, {"wrong": 1}, {"resumed": {**run, "at_work": [40, 40]}}):
        assert len(failed(run_verdicts({**sound, **broken}))) == 1
    audit = {"cpu": 1, "plain_cpu": 1, "peak_mib": 1}
    votes = {"layouts": {"compacted": [{"what": "q", "ours": 3.1, "plain": 1.0}]}, "audit": audit, "votes": 20}
    assert failed(votes_verdicts(votes)) == ["q: CPU / one file"]
    assert votes_table({**votes, "files": {"compacted": 1}})[0].rows == [["q", "1.00", "3.10", "3.10"]]


def test_an_export_that_is_large_or_leaks_or_loses_is_a_fail() -> None:
    sound = Exported("dpo", 10, 8, 1.0, 900.0, 1.0, both_sides=0, unaccounted=0)
    assert not failed(sound.verdicts)
    for fault in ({"peak_mib": 1600.0}, {"both_sides": 1}, {"unaccounted": 1}):
        assert len(failed(replace(sound, **fault).verdicts)) == 1


@pytest.mark.torture
def test_the_exports_benchmark_measures(tmp_path: Path) -> None:
    out = tmp_path / "export.json"
    done = CliRunner().invoke(export, f"--prompts 300 --only dpo --out {out}".split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    [[form, candidates, *_]] = json.loads(out.read_text(encoding="utf-8"))["tables"][0]["rows"]
    assert (form, candidates) == ("dpo", "300")


def test_what_torture_counts_is_a_row_each() -> None:
    run = {"seed": 5, "seconds": 1234, "counts": {"kills": 1200}, "figures": {"repeated calls": 0.5}}
    assert torture_table(run).rows == [["kills", "1,200"], ["repeated calls", "0.5"], ["seconds", "1,234"]]


# --- scale


@pytest.mark.torture
def test_memory_and_time_of_a_run_do_not_grow_with_its_size(tmp_path: Path) -> None:
    # Parquet's and DuckDB's own pools, and what Python's collector leaves, fill in the first thousands of prompts.
    small, large = apart(tmp_path / "small", 5000), apart(tmp_path / "large", 15000)
    assert large["peak_mib"] < 1.2 * small["peak_mib"]
    marks = large["marks"]
    early, late = (marks[end]["cpu_seconds"] - marks[end - 3]["cpu_seconds"] for end in (3, 9))
    assert late < 1.6 * early


def test_multiplied_votes_are_a_run_that_can_be_asked_and_answers_that_differ_are_no_measurement(
    tmp_path: Path,
) -> None:
    root, run_id = make(tmp_path, 20 * VOTES)
    plain = one_file(root, run_id, tmp_path / "plain")
    [(pair,)] = plain.sql("SELECT min(id) FROM preferences").fetchall()
    with connect(root) as ours:
        [counts] = ask(ours, "SELECT count(*), count(DISTINCT pair_id), count(DISTINCT id) FROM judgements").rows
        pairs = counts[1]
        assert 10 < pairs <= 20
        assert counts == (pairs * VOTES, pairs, pairs * VOTES)
        for what in ("votes by judge and principle", "votes of one pair", "provenance of one preference"):
            spent = beside(ours, plain, QUESTIONS[what].format(run=run_id, pair=pair))
            assert spent["ours"] > 0 < spent["plain"]
        plain.execute("CREATE TABLE few AS SELECT * FROM judgements LIMIT 7")
        plain.execute("CREATE OR REPLACE VIEW judgements AS FROM few")
        with pytest.raises(SystemExit, match="not the same rows"):
            beside(ours, plain, "SELECT count(*) FROM judgements")
    plain.close()


# --- judges with planted faults


@pytest.mark.torture
def test_planted_faults_are_measured_and_put_right() -> None:
    faulty = measure(Setting(900, position=1.5, length=-10.0, style=0.0, noise=1.0, accuracy=0.9), 300)
    for name in ("position", "length"):
        effect = faulty.effect(name)
        assert effect.recovered
        assert effect.reported
        assert effect.high - effect.low < abs(effect.planted), "the interval is no wider than what was planted"
    assert faulty.raw < faulty.both < 1
    assert not failed(judges_verdicts([faulty]))


def test_a_missed_effect_an_alarm_and_a_label_made_worse_break_their_promises() -> None:
    grid = list(settings())
    assert len(set(grid)) == len({one.number for one in grid}) == len(grid)
    assert (sum(not one.clean for one in grid) >= 24, sum(one.clean for one in grid) >= 10) == (True, True)
    planted = Setting(900, position=1.5, length=-10.0, style=0.0, noise=1.0, accuracy=0.9)
    effects = [Effect(name, planted.planted(name), planted.planted(name), -12.0, 2.0) for name in EFFECTS]
    sound = Result(planted, 300, tuple(effects), raw=0.7, both=0.8, controlled=0.9)
    assert not failed(judges_verdicts([sound]))
    missed = replace(sound, effects=(Effect("position", 1.5, 0.0, -0.1, 0.1), *sound.effects[1:]))
    loud = replace(
        sound,
        setting=Setting(901, 0.0, 0.0, 0.0, noise=1.0, accuracy=1.0),
        effects=tuple(Effect(name, 0.0, 0.5, 0.4, 0.6) for name in EFFECTS),
    )
    assert loud.alarms == list(EFFECTS)
    for broken in (missed, replace(sound, controlled=sound.raw), loud):
        assert failed(judges_verdicts([broken]))
    row = tables([missed])[1].rows[0]
    assert row[:6] == ["900", "1.5", "−10", "0", "1", "0.9"]
    assert row[6] == "0.000 [−0.100, 0.100] **out**"


# --- vLLM: what needs no vLLM


@pytest.mark.parametrize(
    ("calls", "block", "expected"),
    [
        ([Call([1, 2, 3, 4, 5])], 2, 0),
        ([Call([1, 2, 3, 4, 5]), Call([1, 2, 3, 4, 9])], 2, 4),
        ([Call([1, 2, 3, 4, 5]), Call([1, 2, 3, 9, 9])], 2, 2),
        ([Call([1, 2, 3, 4]), Call([1, 2, 3, 4])], 2, 2),  # the last token is always computed
        ([Call([1, 2, 3, 4, 5]), Call([9, 9, 3, 4, 5])], 2, 0),  # a block needs all that is before it
        ([Call([1, 2, 3], [4, 5, 6]), Call([1, 2, 3, 4, 5, 6, 7])], 2, 4),  # an output, but for its last token
    ],
)
def test_prompt_tokens_that_a_prefix_cache_allows(calls: list[Call], block: int, expected: int) -> None:
    assert reusable(calls, block) == expected


def test_reusable_agrees_with_comparing_every_pair() -> None:
    """Against the definition in full: the longest prefix in blocks that any earlier text has."""
    draw = random.Random(3)
    calls = [
        Call(draw.choices((1, 2), k=draw.randint(1, 14)), draw.choices((1, 2), k=draw.randint(0, 6))) for _ in range(60)
    ]
    for block in (1, 2, 3):
        expected = 0
        for place, call in enumerate(calls):
            earlier = [[*other.prompt, *other.output[:-1]] for other in calls[:place]]
            most = (len(call.prompt) - 1) // block
            expected += block * max(
                (
                    blocks
                    for blocks in range(most + 1)
                    for text in earlier
                    if len(text) >= blocks * block and text[: blocks * block] == list(call.prompt[: blocks * block])
                ),
                default=0,
            )
        assert reusable(calls, block) == expected
    assert hit_rates([Call([1, 2, 3, 4]), Call([1, 2, 3, 5], cached=2)], block=1) == (0.25, 0.375)
    assert hit_rates([], block=16) == (0.0, 0.0)


def outcome(seconds: float, cached: int, **more: Any) -> Outcome:
    return Outcome(seconds, 100, requests=300, prompt_tokens=1000, cached_tokens=cached, output_tokens=50, **more)


def test_contenders_are_compared_by_medians_and_by_what_they_wrote() -> None:
    one = outcome(1.0, 0, answers={"p": ["a"], "q": ["b"]}, votes={"v": 0.5, "w": 0.5})
    other = outcome(1.0, 0, answers={"p": ["a"], "q": ["c"]}, votes={"v": 0.5004, "x": 0.5})
    same = agreement(one, other)
    assert [same.chains, same.votes, same.votes_shared] == pytest.approx([0.5, 1.0, 1 / 3])

    def measured(ours: tuple[float, ...], cached: int) -> dict[str, Any]:
        mine = figures([outcome(seconds, cached) for seconds in ours])
        contenders = {"ours": mine, "script": figures([outcome(10.0, 400)])}
        return {"block": 16, "requests_allow": {"ours": 0.5}, "agreement": same, "contenders": contenders}

    assert not failed(vllm_verdicts(measured((20.0, 9.0, 8.0), cached=450)))
    assert len(failed(vllm_verdicts(measured((11.0, 10.5, 8.0), cached=440)))) == 2
    sound = measured((5.0,), cached=500)
    assert vllm_table(sound).rows[0][:3] == ["ours", "20.00", "2.000"]
    assert "allow 50.0%" in vllm_note(sound)


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_makes_a_recipe(name: str, tmp_path: Path) -> None:
    job = Job(SHAPES[name], tmp_path, prompts=4, window=8, more={"block_size": 32})
    job.write()
    recipe = job.recipe()
    assert isinstance(recipe.model.policy, VLLMModel)
    assert recipe.model.policy.vllm["block_size"] == 32
    assert recipe.output.window == 8
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 4
    if SHAPES[name].layers:
        assert recipe.model.policy.vllm["load_format"] == "dummy"
        assert (job.model / "tokenizer.json").exists()
