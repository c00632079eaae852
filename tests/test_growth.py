"""The growth benchmarks' arithmetic, and that their processes do what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import growth_shards, growth_storm
from benchmarks.growth import main
from benchmarks.growth_shards import Grown, Storm
from benchmarks.growth_storm import Weathered
from benchmarks.results import Verdict

WHOLE = Grown(0, 1000, 20.0, (20.0,), (200.0,))
TWO = Grown(2, 1000, 10.0, (10.0, 10.2), (200.0, 190.0))


def failed(verdicts: list[Verdict]) -> list[str]:
    return [verdict.what for verdict in verdicts if not verdict.passes]


def test_slow_costly_and_large_shards_break_the_promises() -> None:
    many, large = replace(TWO, shards=8, peak_mib=(210.0,) * 8), replace(TWO, prompts=4000)
    runs = [WHOLE, TWO, WHOLE, replace(TWO, wall_s=30.0), WHOLE, TWO, many, large]  # by medians
    assert failed(growth_shards.verdicts(runs)) == []
    assert growth_shards.table(runs).rows[1] == ["2 shards", "1,000", "10.0", "100", "20.2", "10.2", "200"]
    for fault in (
        [WHOLE, replace(TWO, wall_s=11.2), many, large],
        [WHOLE, TWO, replace(many, peak_mib=(250.0,) * 8), large],
        [WHOLE, TWO, many, replace(large, peak_mib=(250.0,))],
    ):
        assert len(failed(growth_shards.verdicts(fault))) == 1
    assert len(failed(growth_shards.verdicts([WHOLE, replace(TWO, cpu_s=(11.0, 11.3)), many, large]))) == 2


def test_a_dear_url_and_a_wrong_row_break_the_promises() -> None:
    folder, url = Weathered(WHOLE, False, 0.0, 0), Weathered(replace(WHOLE, wall_s=22.9), True, 0.0, 0)
    assert failed(growth_storm.overhead_verdicts([folder, url])) == []
    assert len(failed(growth_storm.overhead_verdicts([folder, replace(url, grown=replace(WHOLE, wall_s=23.1))]))) == 1
    assert failed(growth_storm.storm_verdicts(url)) == []
    assert len(failed(growth_storm.storm_verdicts(replace(url, wrong=1)))) == 1
    assert growth_storm.table([url]).rows[0][2] == "URL"


def test_a_storm_kills_three_of_four_and_wakes_what_hangs() -> None:
    storm, over = Storm(kills=4, every_s=0.05, hang_s=0.1), threading.Event()
    processes = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(4)]
    storm.alive = {number: process.pid for number, process in enumerate(processes)}
    storm.rage(over)
    assert (storm.done, storm.hung) == (3, 1)
    [(number, _)] = storm.alive.items()
    left = processes[number]
    assert Path(f"/proc/{left.pid}/stat").read_text().split(")")[1].split()[0] != "T"
    os.kill(left.pid, signal.SIGKILL)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 4


@pytest.mark.torture
@pytest.mark.parametrize("where", [(), ("--url",)], ids=["folder", "url"])
def test_eight_shards_in_a_storm_lose_and_double_nothing(tmp_path: Path, where: tuple[str, ...]) -> None:
    command = f"--only storm --each 100 --kills 8 --out {tmp_path / 'growth.json'}".split()
    done = CliRunner().invoke(main, [*command, *where], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    [row] = json.loads((tmp_path / "growth.json").read_text())["tables"][0]["rows"]
    assert (row[1], row[-1]) == ("800", "0")
