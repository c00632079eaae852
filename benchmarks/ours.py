"""The library's pipeline as flows/generate.py drives it, without Prefect, as a client of `engine.py`.

python -m benchmarks.ours bench.toml warehouse
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.figures import Moment, report
from constitution.pipeline import Session, prepare
from constitution.recipe import load_recipe


async def main(recipe: Path, warehouse: Path) -> None:
    begun = Moment.now()
    plan = prepare(load_recipe(recipe), recipe, warehouse)
    async with Session(plan) as session:
        await session.walk()
        run = await session.finish()
    report(begun, run.counts["done"])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
