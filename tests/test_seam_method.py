"""A further way to judge is its own module, a row of the table of methods and its name: a run votes by it, and what its
row says of orders and clamps holds wherever votes are counted."""

from __future__ import annotations

from pathlib import Path

import seams

ONCE = '''"""A vote in one order, counted for no more than it is worth."""

from __future__ import annotations

from constitution import templates
from constitution.judge.question import Question, Verdict, read, share, verdict


async def ask(q: Question) -> Verdict:
    reading = await read(q, "", templates.vote_messages(q.prompt, q.first, q.second, q.principle, q.nonce))
    return verdict(share(reading), [reading])
'''
ROW = """    "once": JudgingMethod("constitution.judge.once:ask", templates.JUDGE, orders=("ab",), clamped=True),
    "label": JudgingMethod("""
CHECK = """
from pathlib import Path
from constitution.warehouse import ask, connect
with connect(Path("w")) as connection:
    def rows(sql):
        return list(ask(connection, sql).rows)
    assert rows("SELECT DISTINCT method, p_ba IS NULL FROM averaged_votes") == [("once", True)]
    assert rows("SELECT max(p_first) > 0.6, max(p_counted) <= 0.6 FROM counted_votes") == [(True, True)]
    assert rows("SELECT count(*) > 0, bool_and(votes_missing = 0), bool_and(p_b BETWEEN 0.399 AND 0.601) "
                "FROM training_pairs WHERE p_b IS NOT NULL") == [(True, True, True)]
    print(rows("SELECT id, p_b, agreement, dissent FROM preferences ORDER BY id"))
"""


def test_a_further_method_touches_three_files(tmp_path: Path) -> None:
    copy = seams.stub(
        tmp_path,
        new={"constitution/judge/once.py": ONCE},
        changed={
            "constitution/judge/methods.py": [('    "label": JudgingMethod(', ROW)],
            "constitution/records/kinds.py": [
                ('Literal["label", "rationale",', 'Literal["once", "label", "rationale",')
            ],
        },
        limit=3,
    )
    copy.command("run", "recipes/fake.toml", "--warehouse", "w", "--set", "judge.method=once",
                 "--set", "model.judge.position_bias=3")  # fmt: skip
    labels = copy.python(CHECK)
    copy.command("relabel", "fake", "--warehouse", "w")
    assert copy.python(CHECK) == labels
    copy.command("audit", "--warehouse", "w")
    copy.command("export", "--warehouse", "w", "--format", "dpo", "--out", "out", "--principles", "no-preaching")
