"""Warehouses on an S3 server that fails, worked on by machines that are killed, stopped and followed by others: all
that they hold is what the same commands make in a folder."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from s3_server import Faults, Request, S3Server
from small_project import RECIPE, small_project
from url_machines import Fate, Machine

TABLES = {
    **dict.fromkeys(("prompts", "responses", "judgements", "scores", "rewards", "preferences", "failures"), "id"),
    "annotations": "id",
    "exported": "export_id || id || coalesce(drop_reason, '')",
    "figures": "concat_ws('/', figure, judge, principle_id, subject)",
}
"""With what tells their rows apart."""
ROWS = " UNION ALL ".join(
    f"SELECT '{table}' AS name, count(*) AS rows, count(DISTINCT {key}) AS ids, "
    f"md5(string_agg(to_json(t)::VARCHAR, ' ' ORDER BY {key})) AS digest "
    f"FROM (SELECT * EXCLUDE created_at FROM {table}) t"
    for table, key in TABLES.items()
)
RUN: tuple[str, ...] = ("run", "recipe.toml")
AFTER: tuple[tuple[str, ...], ...] = (
    ("annotations", "import", "said.csv"),
    ("relabel", "--aggregate", "majority", "ID"),
    ("audit", "--replicates", "100", "--out", "audit.html", "ID"),
    ("export", "--format", "dpo", "--out", "dpo"),
)
"""What comes after a run. ID: the run's."""
FAILING = Faults(slow_down=0.05, internal=0.03, conflict=0.1, refused=0.05, lost=0.08, cut=0.08, stale=6)
BUSY = "is being written by process"


class Place:
    """A project, its rows in a folder, and for each test a fresh warehouse on a server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, S3Server()
        recipe = RECIPE.replace("slice = 20", "slice = 4").replace("flush_seconds = 0.05", "flush_rows = 20")
        self.project = small_project(folder / "project", 12, recipe).parent
        quiet, url = self.machine("quiet"), str(folder / "warehouse")
        quiet.do(*RUN, url=url)
        self.rows = quiet.rows(ROWS, url)
        assert all(table["rows"] == table["ids"] for table in self.rows)
        pairs = quiet.rows("SELECT id AS pair_id, run_id FROM preferences ORDER BY id LIMIT 6", url)
        self.run_id = pairs[0]["run_id"]
        said = "".join(f"{pair['pair_id']},a,me\n" for pair in pairs)
        (self.project / "said.csv").write_text(f"pair_id,preferred,rater\n{said}", encoding="utf-8")

    @contextmanager
    def fresh(self, folder: Path | str) -> Iterator[None]:
        """A server without a warehouse, and machines that never saw one."""
        before = self.folder, self.server
        self.folder, self.server = self.folder / folder, S3Server()
        with self.server:
            yield
        self.folder, self.server = before

    def machine(self, name: str, **settings: Any) -> Machine:
        return Machine(name, self.folder / name, self.server, self.project, **settings)

    def same_rows(self, machine: Machine, rows: list[dict[str, Any]] | None = None) -> None:
        """Once the faults are over."""
        self.server.faults, self.server.before, self.server.after = Faults(), _pass, _pass
        assert machine.rows(ROWS) == (rows or self.rows)
        assert machine.do("verify").endswith(": sound\n")


def _pass(request: Request) -> None:
    pass


def _all(fates: list[Fate], request: Request) -> None:
    for fate in fates:
        fate(request)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("url"))


@pytest.fixture
def place(known: Place, tmp_path: Path) -> Iterator[Place]:
    with known.fresh(tmp_path):
        yield known


def to_its_end(
    place: Place,
    machines: list[Machine],
    when: str,
    chance: random.Random,
    words: tuple[str, ...] = RUN,
    most: int = 99,
) -> int:
    """The command, killed at requests by chance, `before` or `after` they are done, and given again on one of the
    machines, up to its end; returns how often it was killed."""
    kills, machine = 0, machines[0]
    while True:
        fate = Fate(machine, chance.randint(1, 12 + 12 * kills) if kills < most else 10**6)
        setattr(place.server, when, fate)
        started = fate.start(*words)
        code = started.wait()
        if code == 0:
            return kills
        if fate.met.is_set():
            kills += 1
            machine = chance.choice(machines)
        else:
            # The lease of the one that was killed is not over.
            assert (code, BUSY in started.said()) == (2, True), started.said()
            time.sleep(0.2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_requests_and_resumed_by_another_machine(place: Place, when: str, torture: Torture) -> None:
    chance = random.Random(f"{torture.seed}/{when}")
    for life in range(20 if torture.full else when == "after"):
        with place.fresh(f"life-{life}"):
            place.server.faults = FAILING
            machines = [place.machine(name, lease=0.3) for name in ("here", "there")]
            kills = to_its_end(place, machines, when, chance, most=99 if torture.full else 1)
            torture.count("kills of runs on a URL, at requests", kills)
            place.same_rows(place.machine("reader"))


@pytest.mark.torture
def test_who_sleeps_past_its_lease_changes_nothing_of_who_took_over(place: Place) -> None:
    sleeper, other = place.machine("sleeper", lease=0.3), place.machine("other")
    place.server.clocks["other"] = -3600.0  # by its own clock the lease has an hour yet
    fate = Fate(sleeper, 2, signal.SIGSTOP, "/responses/")
    place.server.before = fate
    started = fate.start(*RUN)
    assert fate.met.wait(30)
    assert to_its_end(place, [other], "after", random.Random(1), most=0) == 0
    started.kill(signal.SIGCONT)
    assert started.wait() == 2
    assert "lease" in started.said()
    place.same_rows(place.machine("reader"))
    assert "Nothing to do" in sleeper.do(*RUN)


@pytest.mark.torture
def test_objects_that_are_not_what_was_written_are_found_and_mended_from_a_mirror_or_by_the_run(place: Place) -> None:
    here, other = place.machine("here"), place.machine("other")
    here.do(*RUN)
    [part] = [key for key in place.server.keys if key.startswith("w/responses/")]
    place.server.write(part, place.server.read(part)[:-9])
    for machine in (here, other):
        assert ": 1 damaged" in machine.do("verify", code=1)
    assert here.do("verify", "--repair").endswith(": sound\n")
    place.same_rows(other)
    place.server.delete(part)
    assert "is missing" in place.machine("healer").do("verify", "--repair", code=1)
    place.machine("healer").do(*RUN)
    place.same_rows(place.machine("reader"))
    place.same_rows(here)


@pytest.mark.torture
def test_by_a_clock_that_is_ahead_no_lease_is_over_sooner(place: Place) -> None:
    holder, other = place.machine("holder"), place.machine("other")
    place.server.clocks["other"] = 3600.0
    fate = Fate(holder, 2, signal.SIGSTOP, "/responses/")
    place.server.after = fate
    started = fate.start(*RUN)
    assert fate.met.wait(30)
    assert BUSY in other.do(*RUN, code=2)
    started.kill(signal.SIGCONT)
    assert started.wait() == 0
    place.same_rows(other)


@pytest.mark.torture
@pytest.mark.parametrize("fault", ["timeout", "late"])
def test_requests_that_time_out_cost_no_row_and_double_none(place: Place, fault: str) -> None:
    place.server.faults = Faults(
        timeout=0.03 * (fault == "timeout"), late=0.03 * (fault == "late"), timeout_s=1.5, seed=3
    )
    place.machine("here", timeout="1s").do(*RUN)
    assert place.server.count(fault)
    place.same_rows(place.machine("there"))


@pytest.mark.torture
def test_killed_before_steps_on_its_own_disk_and_started_again(place: Place, torture: Torture) -> None:
    chance = random.Random(f"{torture.seed}/steps")
    for life in range(10):
        with place.fresh(f"life-{life}"):
            kills, machine, step = 0, place.machine("here"), chance.randint(1, 30)
            while machine.start(*RUN, steps=step).wait():
                kills += 1
                step = chance.randint(1, 40 + 40 * kills)
            torture.count("kills of runs on a URL, at steps on the disk", kills)
            place.same_rows(machine)
            place.same_rows(place.machine("reader"))


@pytest.mark.torture
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_comes_after_a_run_killed_at_requests(place: Place, when: str, torture: Torture, tmp_path: Path) -> None:
    chance = random.Random(f"{torture.seed}/{when} of what comes after")
    folder = str(tmp_path / "warehouse")
    for words in (RUN, *AFTER):
        place.machine("quiet").do(*_words(place, words, tmp_path / "quiet-out"), url=folder)
    rows = place.machine("quiet").rows(ROWS, folder)
    for life in range(6):
        with place.fresh(f"life-{life}"):
            machines = [place.machine(name, lease=0.3) for name in ("here", "there")]
            machines[0].do(*RUN)
            place.server.faults = FAILING
            for n, words in enumerate(AFTER):
                given = _words(place, words, tmp_path / f"out-{life}-{n}")
                kills = to_its_end(place, machines, when, chance, given, most=4)
                torture.count(f"kills of {words[0]} on a URL, at requests", kills)
            place.same_rows(place.machine("reader"), rows)


def _words(place: Place, words: tuple[str, ...], out: Path) -> tuple[str, ...]:
    out.mkdir(parents=True, exist_ok=True)
    named = {"ID": place.run_id, "audit.html": str(out / "audit.html"), "dpo": str(out / "dpo")}
    return tuple(word if words[n - 1] == "--format" else named.get(word, word) for n, word in enumerate(words))


@pytest.mark.torture
def test_who_reads_meanwhile_finds_no_row_twice_and_no_vote_without_its_answers(place: Place) -> None:
    query = (
        "SELECT (SELECT count(*) FROM judgements) AS votes, (SELECT count(DISTINCT id) FROM judgements) AS ids, "
        "(SELECT count(*) FROM judgements WHERE first_id NOT IN (FROM (SELECT id FROM responses))) AS lone"
    )
    place.server.faults = Faults(latency=0.01, stale=10)
    writer, reader = place.machine("writer"), place.machine("reader")
    started, seen = writer.start(*RUN), [0]
    while started.alive:
        said = reader.start("sql", query, "--format", "json", "--out", str(place.folder / "seen.json"))
        if said.wait() == 0:
            [row] = reader.rows(query)
            assert (row["votes"], row["lone"]) == (row["ids"], 0)
            assert row["votes"] >= seen[-1]
            seen.append(row["votes"])
    assert started.wait() == 0
    assert len(set(seen)) > 2, seen
    place.same_rows(reader)


@pytest.mark.torture
@pytest.mark.parametrize("of", [2, 8])
def test_shards_on_machines_of_their_own_are_killed_again_and_again(place: Place, of: int, torture: Torture) -> None:
    chance = random.Random(f"{torture.seed}/shards on a URL")
    place.server.faults = FAILING
    machines = [place.machine(f"shard-{number}", lease=0.3) for number in range(1, of + 1)]
    machines[0].do(*RUN, "--prepare")
    left, kills = {number: machines[number - 1] for number in range(1, of + 1)}, 0
    while left:
        fates = {}
        for number, machine in left.items():
            fates[number] = Fate(machine, chance.randint(5, 80) if kills < 2 * of else 10**6)
        place.server.after = partial(_all, list(fates.values()))
        started = {number: fate.start(*RUN, "--shard", f"{number}/{of}") for number, fate in fates.items()}
        for number, process in started.items():
            code = process.wait()
            kills += code == -signal.SIGKILL
            assert code == 0 or fates[number].met.is_set() or code in (1, 2), process.said()
            if code == 0:
                del left[number]
    torture.count("kills of shards on a URL", kills)
    assert kills
    place.same_rows(place.machine("reader"))
    [run] = place.machine("reader").rows("SELECT finished_at IS NOT NULL AS finished FROM runs")
    assert run["finished"]
