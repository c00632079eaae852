"""What a run's record says of its models, over all its starts."""

from __future__ import annotations

from collections.abc import Mapping

from constitution.errors import RecipeError
from constitution.records import Run


def check_same_models(stored: Run, now: Mapping[str, Mapping[str, str]]) -> None:
    """Raises RecipeError where a server has another model now than when the run's rows were made.

    Its address is no part of the run, so it may be another server; a local model's digest is in the run's id. A server
    that did not say what it has is believed.
    """
    for role, facts in now.items():
        if facts.get("engine") != "openai":
            continue
        section = role.replace("judge ", "jury.").replace("pool ", "pool.")
        earlier = [old for name, old in stored.models.items() if name.split(" until ")[0] == role]
        for fact in ("name", "server_model"):
            before = {old[fact] for old in earlier if old.get(fact, "unknown") != "unknown"}
            if before and facts.get(fact, "unknown") not in ("unknown", *before):
                raise RecipeError(
                    f"model.{section}: run {stored.run_id} was begun with {sorted(before)[0]}, and the server at "
                    f"{facts.get('base_url', 'base_url')} has {facts[fact]}",
                    hint="give the first server's address, or start a new run with --fresh",
                )


def models_of(stored: Run, now: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """What the engines say of their models, beside what they said differently when earlier rows were made.

    A server may have other weights under the same name today, and a library another version.
    """
    last = f"until start {stored.starts}"
    # What a server refused is found out as the run works: it is no other model, and is kept.
    now = with_sent(now, stored.models)
    before = {role: facts for role, facts in stored.models.items() if role not in now}
    changed = {f"{role} {last}": facts for role, facts in stored.models.items() if _differ(now.get(role, facts), facts)}
    return {**now, **before, **changed}


def with_sent(
    models: Mapping[str, Mapping[str, str]], others: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """`models` with what `others` say was sent otherwise than asked for (`sent`), each sentence once."""
    joined = {}
    for role, facts in models.items():
        said = [part for each in (facts, others.get(role, {})) if "sent" in each for part in each["sent"].split("; ")]
        joined[role] = {**facts, **({"sent": "; ".join(dict.fromkeys(said))} if said else {})}
    return joined


def _differ(now: Mapping[str, str], before: Mapping[str, str]) -> bool:
    return {**now, "sent": ""} != {**before, "sent": ""}
