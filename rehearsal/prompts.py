"""Held-out requests of the pocket world, as a file of prompts: `python -m rehearsal.prompts --count 600`.

One JSON object a line: `messages`, and the type of request as `tags`. recipes/pocket-prompts.jsonl is made by it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from constitution.pocket.world import TYPES, Request, World
from constitution.records import as_dicts


def held_out_requests(count: int, seed: int) -> Iterator[Request]:
    """`count` different requests, the types in turn; none about a topic that training shows in that type of request."""
    world = World(random.Random(seed))
    seen: set[str] = set()
    while len(seen) < count:
        request = world.request("held-out", TYPES[len(seen) % len(TYPES)])
        if request.text not in seen:
            seen.add(request.text)
            yield request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("recipes/pocket-prompts.jsonl"))
    args = parser.parse_args()
    with args.out.open("w", encoding="utf-8") as file:
        for request in held_out_requests(args.count, args.seed):
            row = {"messages": as_dicts(request.messages), "tags": [request.type]}
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
