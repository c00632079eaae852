"""The grammar's truth as annotations: `python -m constitution.pocket.truth [RUN] --out truth.csv [--warehouse DIR]`.

For every pair of a run on pocket prompts, one row on the whole (the answer that breaks fewer principles is better) and
one under each principle that compares; equal answers are a tie. `constitution annotations import truth.csv` makes it
gold, against which `constitution audit` holds the judge.

With `--scorecard NAME`, one row per answer and question of that scorecard instead: 1 where the reply is yes. Imported
after `constitution audit --scorecard`, it is what the next audit takes sensitivity and specificity from.

With `--answers`, one row per answer: minus the number of principles that it breaks. Rewards are held against it.

Prints how many answers of each round break a principle.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from constitution.errors import ConstitutionError, QueryError
from constitution.pocket.questions import question_of, reply
from constitution.pocket.world import read, truth, verdict
from constitution.principles import find_root, load_constitution
from constitution.records import Constitution
from constitution.warehouse import Warehouse, ask, connect, place
from constitution.warehouse.views import quoted

RATER = "truth"
COLUMNS = ("pair_id", "principle_id", "value", "rater")
SCORECARD_COLUMNS = ("response_id", *COLUMNS[1:])


_TEXTS = """
SELECT r.id, p.last_user, r.text, r.round
FROM responses AS r JOIN prompts AS p ON p.run_id = r.run_id AND p.id = r.prompt_id WHERE r.run_id = """


def rows(root: Path, run_id: str) -> Iterator[tuple[str, str, float, str]]:
    """Annotations of the run's pairs, as COLUMNS has them: value 0 where a is better, 1 where b is, 0.5 where neither.

    A pair whose request is not of the pocket world has none. principle_id is empty for the whole. Raises QueryError
    where no pair is of the pocket world.
    """
    which = quoted(run_id)
    with connect(root) as connection:

        def found(sql: str) -> list[tuple[Any, ...]]:
            return list(ask(connection, sql).rows)

        faults = found(
            "SELECT principle_id, tags[1] FROM principles "
            f"WHERE run_id = {which} AND comparison_question <> '' ORDER BY position"
        )
        texts = found(_TEXTS + which)
        pairs = found(f"SELECT id, a_id, b_id FROM preferences WHERE run_id = {which} ORDER BY id")
    broken = {id: faulty for id, request, text, _ in texts if (faulty := truth(request, text)) is not None}
    known = [(id, broken[a], broken[b]) for id, a, b in pairs if a in broken and b in broken]
    if not known:
        raise QueryError(f"run {run_id}: none of its pairs is of the pocket world", hint="run recipes/pocket.toml")
    for pair_id, a, b in known:
        # Fewer faults are better: 1 where a has more of them than b.
        yield pair_id, "", (1 + (len(a) > len(b)) - (len(a) < len(b))) / 2, RATER
        for principle_id, fault in faults:
            a_better = verdict(fault, a, b)
            yield pair_id, principle_id, 0.5 if a_better is None else 1 - a_better, RATER


def scorecard_rows(root: Path, run_id: str, scorecard: Constitution) -> Iterator[tuple[str, str, float, str]]:
    """Annotations of the run's answers, as SCORECARD_COLUMNS has them: value 1 where the reply to the principle's first
    criterion is yes. An answer whose request is not of the pocket world has none.

    Raises QueryError where no answer is of the pocket world, or the scorecard asks what the grammar does not know.
    """
    try:
        asked = [(each.id, question_of(each, each.criteria[0])) for each in scorecard.principles if each.criteria]
    except ValueError as error:
        raise QueryError(f"{scorecard.label}: {error}", hint="pocket-scorecard asks what the grammar knows") from None
    with connect(root) as connection:
        texts = list(ask(connection, _TEXTS + quoted(run_id) + " AND r.kind <> 'perturbation' ORDER BY r.id").rows)
    known = [(id, reading) for id, request, text, _ in texts if (reading := read(request, text)) is not None]
    if not known:
        raise _foreign(run_id)
    for response_id, reading in known:
        for principle_id, question in asked:
            yield response_id, principle_id, float(reply(question, reading)), RATER


def answer_rows(root: Path, run_id: str) -> Iterator[tuple[str, str, float, str]]:
    """Annotations of the run's answers on the whole, as SCORECARD_COLUMNS has them: minus the number of principles that
    the answer breaks. An answer whose request is not of the pocket world has none. QueryError where none is."""
    with connect(root) as connection:
        texts = list(ask(connection, _TEXTS + quoted(run_id) + " AND r.kind <> 'perturbation' ORDER BY r.id").rows)
    known = [(id, broken) for id, request, text, _ in texts if (broken := truth(request, text)) is not None]
    if not known:
        raise _foreign(run_id)
    for response_id, broken in known:
        yield response_id, "", -float(len(broken)), RATER


def _foreign(run_id: str) -> QueryError:
    return QueryError(f"run {run_id}: none of its answers is of the pocket world", hint="run recipes/pocket.toml")


def broken_by_round(root: Path, run_id: str) -> list[tuple[int, int, int]]:
    """Round, answers that break a principle, answers; of those whose request is of the pocket world."""
    with connect(root) as connection:
        texts = list(ask(connection, f"{_TEXTS}{quoted(run_id)} AND r.kind <> 'perturbation'").rows)
    known = [(round, broken) for _, request, text, round in texts if (broken := truth(request, text)) is not None]
    return [
        (number, sum(bool(broken) for round, broken in known if round == number), sum(r == number for r, _ in known))
        for number in sorted({round for round, _ in known})
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="run id, or how it begins; default: the newest with pairs, or answers")
    parser.add_argument("--out", type=Path, required=True, help="the file: CSV, for `constitution annotations import`")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scorecard", metavar="NAME[@VERSION]", help="its questions on answers, not pairs")
    what.add_argument("--answers", action="store_true", help="answers on the whole, not pairs")
    parser.add_argument("--warehouse", type=place, default=os.environ.get("CONSTITUTION_WAREHOUSE", "warehouse"))
    args = parser.parse_args()
    try:
        having = "responses" if args.scorecard or args.answers else "preferences"
        run_id = Warehouse(args.warehouse).find_run(args.run, (having,)).run_id
        if args.scorecard:
            scorecard = load_constitution(find_root(Path.cwd()), args.scorecard)
            columns, found = SCORECARD_COLUMNS, list(scorecard_rows(args.warehouse, run_id, scorecard))
        elif args.answers:
            columns, found = SCORECARD_COLUMNS, list(answer_rows(args.warehouse, run_id))
        else:
            columns, found = COLUMNS, list(rows(args.warehouse, run_id))
        with args.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *found])
        by_round = broken_by_round(args.warehouse, run_id)
    except (ConstitutionError, OSError) as error:
        hint = getattr(error, "hint", "")
        raise SystemExit(f"{error} ({hint})" if hint else str(error)) from None
    about = "answers" if args.scorecard or args.answers else "pairs"
    print(f"{len(found):,} annotations on {len({row[0] for row in found}):,} {about} of {run_id}: {args.out}")
    for number, broken, count in by_round:
        print(f"round {number}: {broken:,} of {count:,} answers break a principle ({broken / count:.1%})")


if __name__ == "__main__":
    main()
