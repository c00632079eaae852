"""A stored run of the pocket world: answers that its grammar made, and votes that say what the grammar says of each
principle, with a lean to the answer shown first."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from constitution.identity import row_id
from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.pocket.world import World, verdict
from constitution.principles import find_root, load_constitution
from constitution.recipe import JudgeSection
from constitution.records import Annotation, Constitution, Judgement, Profile, Prompt, Response, Run
from constitution.warehouse import Warehouse

RUN = "pocket-0123456789ab"
POCKET = load_constitution(find_root(Path(__file__).parent.parent), "pocket@1.1.0")
VOTING = tuple(principle for principle in POCKET.principles if principle.compares)
FAULT = {principle.id: principle.tags[0] for principle in VOTING}
PROFILES = (
    Profile("same", (("do-not-preach", 0.8), ("no-harm", 1.0)), description="As the principles weigh."),
    Profile("guarded", tuple(sorted((each.id, 8.0 if each.id == "no-harm" else 0.25) for each in VOTING))),
    Profile("courteous", (("be-polite", 4.0), ("do-not-preach", 2.0), ("no-harm", 0.25)), group="town"),
    Profile("facts", tuple(sorted((each.id, float(each.id == "invent-nothing")) for each in VOTING))),
)
CONSTITUTION = replace(POCKET, principles=VOTING, profiles=PROFILES)
ODDS, POSITION = 1.7, 0.3


@dataclass
class Stored:
    """What the grammar says of each pair: by principle 1 where b is better, 0 where a is, 0.5 where neither."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    says: dict[str, dict[str, float]] = field(default_factory=dict)
    votes: dict[str, list[Judgement]] = field(default_factory=dict)

    def side(self, pair_id: str, weights: Mapping[str, float]) -> int:
        """Which answer the grammar's truth prefers by these weights: 1 is b, -1 is a."""
        total = math.fsum(weights[id] * (value - 0.5) for id, value in self.says[pair_id].items() if id in weights)
        return 0 if abs(total) < 1e-12 else (1 if total > 0 else -1)


def store(
    root: Path, pairs: int = 80, constitution: Constitution = CONSTITUTION, seed: int = 1, **judge: object
) -> Stored:
    """Writes the run. judge: settings of [judge]."""
    world, stored, warehouse = World(random.Random(seed)), Stored(), Warehouse(root)
    section = JudgeSection.model_validate(judge)
    prompts: list[Prompt] = []
    answers, labels = [], []
    for _ in range(pairs):
        request = world.request("held-out")
        prompt = Prompt(request.messages)
        if any(prompt.id == other.id for other in prompts):
            continue
        made = [world.answer(request, tempted) for tempted in (0.9, 0.6)]
        a, b = (
            Response(row_id(RUN, prompt.id, n), RUN, prompt.id, "given", n, each.text, "ok", "given")
            for n, each in enumerate(made)
        )
        pair = Pair(row_id(prompt.id, "pair"), "given", a, b)
        said = {id: verdict(fault, made[0].broken, made[1].broken) for id, fault in FAULT.items()}
        stored.says[pair.id] = {id: 0.5 if better is None else 1 - better for id, better in said.items()}
        stored.pairs[pair.id] = pair
        votes = stored.votes[pair.id] = _votes(pair, stored.says[pair.id]) if pair.votable else []
        labels.append(label_pair(pair, votes, len(votes), constitution.weights(), Rules.of(section)))
        prompts.append(prompt)
        answers += [a, b]
    warehouse.write_principles(RUN, constitution)
    warehouse.write_prompts(RUN, 0, prompts)
    warehouse.write_part("responses", RUN, answers)
    warehouse.write_part("judgements", RUN, [vote for votes in stored.votes.values() for vote in votes])
    warehouse.write_part("preferences", RUN, labels)
    recipe = {"name": "pocket", "judge": section.model_dump(mode="json"), "prompts": {"path": "pocket.jsonl"}}
    times = ("2026-11-22T10:00:00+00:00", "2026-11-22T10:05:00+00:00")
    warehouse.write_run(Run(RUN, recipe, constitution.label, constitution.digest, {}, {}, "0", {}, *times))
    warehouse.rebuild_views()
    return stored


def _votes(pair: Pair, says: Mapping[str, float]) -> list[Judgement]:
    found = []
    for principle in VOTING:
        for order in ("ab", "ba"):
            first, second = pair.shown(order)
            towards_b = ODDS * (2 * says[principle.id] - 1)
            p_first = 1 / (1 + math.exp(-(towards_b if order == "ba" else -towards_b) - POSITION))
            id = row_id(pair.id, principle.id, order)
            found.append(
                Judgement(id, RUN, pair.a.prompt_id, pair.id, first.id, second.id, "grammar", principle.id,
                          principle.digest, "label", p_first, 1.0, "t")
            )  # fmt: skip
    return found


def gold_of(stored: Stored, raters: Mapping[str, Sequence[str]], weights: Mapping[str, float]) -> list[Annotation]:
    """What raters, each with their groups, say who prefer what these weights do."""
    return [
        Annotation(row_id(RUN, rater, pair_id, None, None), RUN, pair.a.prompt_id, rater,
                   (1 + stored.side(pair_id, weights)) / 2, f"{rater}.csv", pair_id, rater_groups=tuple(groups))
        for rater, groups in raters.items()
        for pair_id, pair in stored.pairs.items()
    ]  # fmt: skip
