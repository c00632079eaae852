"""Runs that are killed and started again until they are done, against servers that fail now and then.

    torment = Torment(KINDS["jury"], tmp_path, torture, "jury")
    await torment.run(kills=18)

A run is the command `constitution run` in its own process group, a kill a signal, and the servers speak HTTP.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import Torture
from kill_recipes import (
    Kind,
    calls_at_once,
    calls_of_a_row,
    lost_at_once,
    lost_in_order,
    write_project,
    write_recipe,
)
from processes import ENDS, Server, Started, seeded

from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse, ask, connect

FAULTY = 0.06
"""Share of the requests that meet a fault."""

# --- what is looked at


@dataclass
class Seen:
    """What a reader finds at one moment."""

    ids: dict[str, list[str]] = field(default_factory=dict)
    calls: int = 0
    """That the rows on disk took."""
    failures: int = 0


def look(root: Path) -> Seen:
    """Raises AssertionError where a row is there twice, or names what is not there: at any moment of a run.

    Each table is asked once, in the opposite order to that in which they are written, so that what a row names was
    there before the row.
    """
    seen = Seen()
    if not (root / "runs" / "_none.json").exists():
        return seen
    with connect(root) as connection:
        labels = list(ask(connection, "SELECT id, a_id, b_id, votes + votes_missing FROM preferences").rows)
        rewards = list(ask(connection, "SELECT id, response_id, source, readings FROM rewards").rows)
        scores = list(ask(connection, "SELECT id, response_id, metric, calls FROM scores").rows)
        failures = list(ask(connection, "SELECT id FROM failures").rows)
        votes = list(ask(connection, "SELECT id, first_id, second_id, pair_id, calls FROM judgements").rows)
        columns = "id, parent_id, critique_seed IS NOT NULL, finish_reason IS NOT NULL"
        answers = list(ask(connection, f"SELECT {columns} FROM responses").rows)
    tables = {"preferences": labels, "rewards": rewards, "scores": scores, "failures": failures, "judgements": votes}
    for table, rows in {**tables, "responses": answers}.items():
        seen.ids[table] = [row[0] for row in rows]
        twice = [id for id, count in Counter(seen.ids[table]).items() if count > 1]
        assert not twice, f"{len(twice)} rows of {table} are there twice"
    known = set(seen.ids["responses"])
    assert known.issuperset(parent for _, parent, _, _ in answers if parent), "a response lacks its parent"
    assert known.issuperset(id for _, first, second, _, _ in votes for id in (first, second)), "a vote lacks its answer"
    assert known.issuperset(id for _, a, b, _ in labels for id in (a, b)), "a label lacks its answer"
    assert known.issuperset(id for _, id, _, _ in (*rewards, *scores)), "a reading or reward lacks its answer"
    read = Counter((id, source) for _, id, source, _ in scores)
    assert all(read[id, source] == readings for _, id, source, readings in rewards), "a reward lacks a reading"
    cast = Counter(pair for _, _, _, pair, _ in votes)
    assert all(cast[id] == expected for id, _, _, expected in labels), "a label lacks a vote"
    seen.calls = sum(critique + answer for _, _, critique, answer in answers) + sum(
        row[-1] for row in (*votes, *scores)
    )
    seen.failures = len(failures)
    return seen


def rows_of(root: Path, table: str) -> list[tuple[Any, ...]]:
    with connect(root) as connection:
        return list(ask(connection, f"SELECT * EXCLUDE (created_at) FROM {table} ORDER BY id").rows)


def same_rows(root: Path, other: Path) -> None:
    """All that the run made and what it said of itself, but for when it was made: no column differs, usage neither,
    since the fake model counts the words of what it is sent, and has no cache."""
    for table in ("prompts", "responses", "judgements", "scores", "rewards", "preferences"):
        ours, theirs = rows_of(root, table), rows_of(other, table)
        different = [(one, two) for one, two in zip(ours, theirs, strict=False) if one != two]
        assert (len(ours), different[:1]) == (len(theirs), []), f"{table}: {len(different)} rows differ"


def whole(root: Path, run_id: str, applied: str) -> None:
    """The run is finished, its labels made as they should be, and nothing is left of the kills."""
    warehouse = Warehouse(root)
    with connect(root) as connection:
        states = dict(ask(connection, "SELECT state, count(*) FROM chains GROUP BY ALL").rows)
    run = warehouse.read_run(run_id)
    assert run is not None
    assert run.finished_at
    assert not run.stopped
    assert states == {"complete": run.counts["prompts"] + run.counts["turns"]}
    assert run.counts["done"] == run.counts["prompts"]
    assert not run.counts["open"]
    assert not run.counts["lost"]
    for table in ("responses", "judgements", "scores", "rewards", "preferences", "failures"):
        assert len(warehouse.ids(table, run_id)) == run.counts[table], table
    assert run.labels.get("applied", "") == applied
    assert not run.repairs, "a kill damages nothing"
    assert warehouse.verify(run_id) == []
    assert not warehouse.locked(run_id)
    assert leftovers(root) == []


def leftovers(root: Path) -> list[str]:
    """Temporary files and folders; locks, and the folders that hold nothing else, are none."""
    hidden = [path for path in root.rglob(".*") if path.name != ".lock" and not path.name.startswith(".scoring-")]
    return [str(path.relative_to(root)) for path in hidden]


# --- the torment

_IMPORTED = r"  File .*, in <module>\n(?:    .*\n)*|  File \"<frozen importlib.*\n"
_OTHERS = r"  File \"(?!.*/constitution/).*\n(?:    .*\n)*"
IMPORTING = re.compile(rf"^Traceback .*\n(?:{_IMPORTED})+(?:{_OTHERS})*KeyboardInterrupt\n", re.M)
"""What Python prints of a Ctrl-C among imports: no frame is of a function of ours."""


class Torment:
    """One recipe's runs, killed at random moments and started again up to their end."""

    def __init__(self, kind: Kind, folder: Path, torture: Torture, name: str) -> None:
        self.kind = kind
        self.folder = folder
        self.torture = torture
        self.chance = random.Random(f"{torture.seed}/kills of {name}")
        self.name = name
        self.kills: Counter[str] = Counter()
        """By what the run did."""
        self.signals: Counter[signal.Signals] = Counter()
        self.torn = 0
        """Kills that left a temporary file or folder."""
        self.worst: dict[str, tuple[int, int]] = {}
        """Answered calls that one kill cost at most, and the bound that held for it."""
        self.faults = self.falls = self.starts = self.repeated = self.needed = 0

    async def run(self, kills: int) -> None:
        """At least so many; where a run ends before that, by more than one run."""
        life = 0
        while (missing := kills - self.kills.total()) > 0:
            moments = ["start"] * max(1, missing // 6) + ["finish"] * max(1, missing // 4)
            moments += ["work"] * max(1, missing - len(moments))
            moments.sort(key=lambda moment: (moment == "finish", self.chance.random()))
            moments.insert(0, moments.pop(moments.index("start")))
            await _Life(self, life, moments).live()
            life += 1
        self._tell(life)

    def _tell(self, runs: int) -> None:
        self.torture.count("kills", self.kills.total())
        when = ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items()))
        signals = ", ".join(f"{count} {number.name}" for number, count in sorted(self.signals.items()))
        worst = ", ".join(f"{name} at most {lost} (bound {may})" for name, (lost, may) in sorted(self.worst.items()))
        self.torture.measure(
            f"kills of {self.name}",
            f"{self.kills.total()} in {runs} run(s) and {self.starts} starts: {when}; {signals}; {self.torn} left "
            f"something half made; {self.repeated} calls repeated beside {self.needed}, by one kill: {worst}; "
            f"{self.faults} faults of servers met" + (f", {self.falls} servers killed" if self.falls else ""),
        )


class _Life:
    """One run from its first start to its end, beside the same run undisturbed."""

    def __init__(self, torment: Torment, number: int, moments: list[str]) -> None:
        self.torment = torment
        self.number = number
        self.seed = number + 1
        self.moments = moments
        folder = torment.folder / f"run-{number}"
        self.project, self.quiet = folder / "killed", folder / "quiet"
        self.root = self.project / "warehouse"
        self.log = folder / "log.txt"
        self.needed: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.since = 0
        """Requests since the start, faulty ones too."""
        self.sound = 0
        """Of those, the ones that were answered."""
        self.seen = Seen()
        self.servers: dict[str, Server] = {}
        self._waits: tuple[int, int, asyncio.Event] | None = None

    async def live(self) -> None:
        torment, kind = self.torment, self.torment.kind
        write_project(self.project, kind, self.seed)
        write_project(self.quiet, kind, self.seed)
        await self._undisturbed()
        self.servers = self._new_servers(FAULTY, self._hear)
        recipe = await self._up(self.project)
        self.recipe = load_recipe(recipe)
        mortal = asyncio.create_task(self._fell(self.servers[kind.mortal])) if kind.mortal else None
        try:
            finished = False
            while self.moments and not finished:
                finished = await self._one_start(self.moments[0])
            for _ in range(30):
                if finished:
                    break
                finished = await self._one_start("")
            assert finished, "the run does not end"
            assert await self._one_start(""), "a finished run is left as it is"
        finally:
            if mortal is not None:
                mortal.cancel()
                await asyncio.gather(mortal, return_exceptions=True)
            for server in self.servers.values():
                await server.kill()
        self._judge()
        torment.needed += self.needed.total()

    async def _undisturbed(self) -> None:
        def hear(mark: str | None) -> None:
            assert mark is not None
            self.needed[mark] += 1

        self.servers = self._new_servers(0.0, hear)
        await self._up(self.quiet)
        try:
            started = await Started.start(self._words[:4], self.quiet, self.log)
            assert await started.end() == 0, self.log.read_text()
        finally:
            for server in self.servers.values():
                await server.kill()
        assert look(self.quiet / "warehouse").calls == self.needed.total(), "rows say how many calls they took"

    def _new_servers(self, share: float, heard: Callable[[str | None], None]) -> dict[str, Server]:
        seed = f"{self.torment.torture.seed}/{self.number}"
        return {
            name: Server(section, share, seeded(f"{seed}/{name}"), heard)
            for name, section in self.torment.kind.servers.items()
        }

    async def _up(self, project: Path) -> Path:
        for server in self.servers.values():
            await server.start()
        addresses = {name: server.address for name, server in self.servers.items()}
        return write_recipe(project, self.torment.kind, self.seed, addresses)

    @property
    def _words(self) -> list[str]:
        return ["run", "recipes/killed.toml", "--warehouse", "warehouse", *(["--prefect"] * self.torment.kind.prefect)]

    def _hear(self, mark: str | None) -> None:
        self.since += 1
        if mark is None:
            self.torment.faults += 1
        else:
            self.sound += 1
            self.answered[mark] += 1
        if self._waits is not None and (self.since >= self._waits[0] or self.sound >= self._waits[1]):
            self._waits[2].set()

    async def _fell(self, server: Server) -> None:
        """Kills the server now and then, and starts it again on its port."""
        chance = random.Random(f"{self.torment.torture.seed}/{self.number}/falls")
        while True:
            await asyncio.sleep(chance.uniform(0.4, 1.5))
            await server.kill()
            self.torment.falls += 1
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            await server.start()

    async def _one_start(self, moment: str) -> bool:
        """Starts the command, and kills it at the moment; "" lets it end. Whether the run is finished."""
        torment, chance = self.torment, self.torment.chance
        torment.starts += 1
        self.since = self.sound = 0
        left = self.needed.total() - self.seen.calls
        falls, had = torment.falls, sum(self.answered.values()) - self.seen.calls
        started = await Started.start(self._words, self.project, self.log)
        number = chance.choices(list(ENDS), weights=[2, 1, 1])[0]
        if moment:
            await self._wait_for(moment, left, started)
            started.send(number)
        code = await started.end()
        killed = bool(moment) and code in ENDS[number]
        assert killed or code in (0, 1), f"exit code {code}\n{self.log.read_text()[-3000:]}"
        if killed:
            self.moments.pop(0)
            torment.signals[number] += 1
            torment.kills[self._doing(left)] += 1
            torment.torn += bool(leftovers(self.root))
        await asyncio.sleep(0.05)  # what is still in the sockets
        before, self.seen = self.seen, look(self.root)
        lost = sum(self.answered.values()) - self.seen.calls - had
        may = self._may_lose(code if killed else 0, self.seen.failures - before.failures, torment.falls - falls)
        if killed:
            name = "SIGKILL" if code == -signal.SIGKILL else "SIGTERM or SIGINT"
            torment.worst[name] = max(torment.worst.get(name, (0, may)), (lost, may))
        assert lost <= may, f"{lost} answered calls are lost where {may} may be (exit code {code}, {moment})"
        return not killed and code == 0

    async def _wait_for(self, moment: str, left: int, started: Started) -> None:
        chance = self.torment.chance
        if moment == "start":
            # The first start by a kill before the run has a record; the others while it opens.
            most = 8.0 if self.torment.kind.prefect else 2.0
            await asyncio.wait({started.ended}, timeout=chance.uniform(0.0, most))
            return
        event = asyncio.Event()
        if moment == "work":
            self._waits = (chance.randint(1, max(1, 2 * left // len(self.moments))), left, event)
        else:
            self._waits = (sys.maxsize, left, event)
        if not (moment == "finish" and left <= 0):
            reached = asyncio.create_task(event.wait())
            await asyncio.wait({started.ended, reached}, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
        self._waits = None
        await asyncio.wait({started.ended}, timeout=chance.uniform(0.0, 0.05 if moment == "work" else 0.3))

    @property
    def _recorded(self) -> bool:
        return any(not path.name.startswith((".", "_")) for path in (self.root / "runs").glob("*.json"))

    def _doing(self, left: int) -> str:
        """What the run did when it was killed."""
        if not self._recorded:
            return "before its record"
        if self.sound >= left:
            return "after its last call"
        return "at work" if self.since else "while it opened"

    def _may_lose(self, code: int, failures: int, falls: int) -> int:
        """Answered calls that are not on disk after a start that ended so."""
        recipe = self.recipe
        may = failures * (calls_of_a_row(recipe) - 1)  # a critique whose revision failed is asked for again
        may += falls * recipe.output.window * calls_at_once(recipe)  # answered by a server that fell on the way
        if code in (-signal.SIGKILL, -signal.SIGTERM):  # SIGTERM kills at once before the run takes it
            return may + lost_at_once(recipe)
        return may + (lost_in_order(recipe) if code else 0)

    def _judge(self) -> None:
        """At the end."""
        # Ctrl-C may come while Python imports, before a line of the command could answer it.
        log = IMPORTING.sub("", self.log.read_text())
        assert "Traceback" not in log, log[log.find("Traceback") :][:3000]
        [run_id] = [run.run_id for run in Warehouse(self.root).runs()]
        whole(self.root, run_id, self.torment.kind.applied)
        same_rows(self.root, self.quiet / "warehouse")
        assert self.answered.keys() == self.needed.keys(), "nothing else is asked than in an undisturbed run"
        repeated = (self.answered - self.needed).total()
        assert self.seen.calls == self.needed.total()
        assert repeated == self.answered.total() - self.seen.calls
        self.torment.repeated += repeated
