"""Prompts → tables, bounded and without barriers.

    plan = prepare(recipe, recipe_path, Path("warehouse"))
    async with open_run(plan) as session:
        await session.walk()
        run = await session.finish()

`flows/generate.py` is these four lines with a task around each step.
"""

from typing import TYPE_CHECKING

from constitution.lazy import names_of

if TYPE_CHECKING:
    from constitution.pipeline.plan import Plan, prepare
    from constitution.pipeline.progress import Pace, Progress, watcher
    from constitution.pipeline.reopen import lost
    from constitution.pipeline.session import Observer, Session, open_run

__all__ = ["Observer", "Pace", "Plan", "Progress", "Session", "lost", "open_run", "prepare", "watcher"]

__getattr__ = names_of(
    __name__,
    {
        **dict.fromkeys(("Plan", "prepare"), "plan"),
        **dict.fromkeys(("Pace", "Progress", "watcher"), "progress"),
        "lost": "reopen",
        **dict.fromkeys(("Observer", "Session", "open_run"), "session"),
    },
)
