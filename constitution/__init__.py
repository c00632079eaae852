"""Prompts and a constitution → data that aligns models.

    from constitution import audit_run, export_run, load_recipe, query, run

    done = run(load_recipe("recipes/fake.toml"), "warehouse", engines={"policy": MyEngine()})
    audit_run("warehouse", done.run_id, report="report.html")
    export_run("warehouse", "data/dpo", done.run_id, format="dpo")
    query("warehouse", "SELECT prompt, chosen, rejected FROM pairs")

The names in `__all__` are the public API; each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from constitution.lazy import names_of

if TYPE_CHECKING:
    from constitution.api import audit_run, export_run, query, run
    from constitution.engines.base import Completion, Engine, Request
    from constitution.generate.own import Asked, Sampler
    from constitution.pipeline.plan import prepare
    from constitution.pipeline.session import Session, open_run
    from constitution.recipe import Recipe, load_recipe
    from constitution.train.reward import RubricReward

__version__ = "0.1.0"

__all__ = [
    "Asked",
    "Completion",
    "Engine",
    "Recipe",
    "Request",
    "RubricReward",
    "Sampler",
    "Session",
    "audit_run",
    "export_run",
    "load_recipe",
    "open_run",
    "prepare",
    "query",
    "run",
]

__getattr__ = names_of(
    __name__,
    {
        **dict.fromkeys(("audit_run", "export_run", "query", "run"), "api"),
        **dict.fromkeys(("Completion", "Engine", "Request"), "engines.base"),
        **dict.fromkeys(("Asked", "Sampler"), "generate.own"),
        **dict.fromkeys(("Recipe", "load_recipe"), "recipe"),
        **dict.fromkeys(("Session", "open_run"), "pipeline.session"),
        "prepare": "pipeline.plan",
        "RubricReward": "train.reward",
    },
)
