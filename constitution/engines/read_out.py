"""Whether a model's files say that it was trained to reward its own answers by the token after them.

LaSeR (arXiv 2510.14943, section 3) trains the log-probability of one reserved token, read right after the token that
ends an answer, towards the answer's reward. In a model that was not trained so it means nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

KEY = "last_token_reward"
"""Field of config.json that training writes: an object with `token`, `c_ref` and `beta`."""
PAPER = "2510.14943"
"""What a model card names that says so."""


def stated(folder: Path) -> dict[str, str]:
    """What the run's provenance has of it, under the name `read_out`; empty: nothing in the folder says so."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if isinstance(config, dict) and (found := config.get(KEY)):
        return {"read_out": json.dumps(found, sort_keys=True)}
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        card = ""
    return {"read_out": f"its README.md names {PAPER}"} if PAPER in card else {}
