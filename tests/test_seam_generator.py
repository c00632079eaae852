"""A further way to make answers is a file, a line in the table of generators, and its section of the recipe."""

from __future__ import annotations

from pathlib import Path

import seams

STUB = '''
from dataclasses import dataclass

from constitution.engines.base import Request
from constitution.generate.base import Answers, Generator
from constitution.generate.outcomes import clean, generation, outcome_of
from constitution.identity import row_id, seed
from constitution.records import Response, Sampling


@dataclass(frozen=True)
class Drafts(Generator):
    """Further answers of the policy, with other seeds."""

    setup: object

    @classmethod
    def of(cls, setup):
        return cls(setup) if setup.recipe.drafts else None

    async def answers(self, prompt, have, emit):
        setup, made = self.setup, []
        for place in range(setup.recipe.drafts):
            id = row_id(setup.run_id, prompt.id, "sample", place)
            if id in have:
                made.append(have[id])
                continue
            drawn, sampling = seed(setup.recipe.seed, prompt.id, "sample", place), Sampling()
            done = await setup.policy.generate(Request(prompt.messages, sampling, drawn, step="sample"))
            text = clean(done.text)
            made.append(
                Response(id, setup.run_id, prompt.id, "sample", place, text, outcome_of(text, done.finish_reason),
                         setup.policy.model, sampler="drafts", **generation(done, sampling, drawn))
            )
            await emit(made[-1:])
        return Answers(tuple(made))
'''

CHECK = """
from pathlib import Path
import pyarrow.parquet as pq
from constitution import query
rows = query("w", "SELECT kind, count(*) AS n, count(DISTINCT text) AS texts FROM responses GROUP BY ALL ORDER BY kind")
assert [(row["kind"], row["n"]) for row in rows] == [("initial", 10), ("revision", 20), ("sample", 30)], rows
assert query("w", "SELECT calls FROM usage WHERE stage = 'sample-drafts'") == [{"calls": 30}]
kinds = {kind for path in Path("sft").rglob("*.parquet") for kind in pq.read_table(path)["kind"].to_pylist()}
assert "sample" in kinds, kinds
assert query("w", "SELECT run_id FROM runs WHERE finished_at IS NOT NULL")
"""


def test_a_further_generator_touches_three_files(tmp_path: Path) -> None:
    copy = seams.stub(
        tmp_path,
        new={"constitution/generate/drafts.py": STUB},
        changed={
            "constitution/generate/__init__.py": [
                ("import Revise\n", "import Revise\nfrom constitution.generate.drafts import Drafts\n"),
                ('"revise": Revise,', '"revise": Revise, "drafts": Drafts,'),
            ],
            "constitution/recipe/sections.py": [
                ("    revise: ReviseSection", "    drafts: Whole = 0\n    revise: ReviseSection")
            ],
        },
        limit=3,
    )
    copy.command("run", "recipes/fake.toml", "--warehouse", "w", "--set", "drafts=3")
    copy.command("export", "--warehouse", "w", "--format", "sft", "--rounds", "all", "--out", "sft")
    copy.command("audit", "--warehouse", "w")
    copy.python(CHECK)
