"""Prompts → tables, bounded and without barriers.

    plan = prepare(recipe, recipe_path, Path("warehouse"))
    async with Session(plan) as session:
        await session.walk()
        run = await session.finish()

`flows/generate.py` is these four lines with a Prefect task around each step.
"""

from constitution.pipeline.plan import Plan, prepare
from constitution.pipeline.progress import Pace, Progress, watcher
from constitution.pipeline.reopen import lost
from constitution.pipeline.report import report, rows
from constitution.pipeline.session import Session

__all__ = ["Pace", "Plan", "Progress", "Session", "lost", "prepare", "report", "rows", "watcher"]
