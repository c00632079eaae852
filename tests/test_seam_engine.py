"""A further engine touches three code files: its own, the table of engines, and its section in the recipe."""

from __future__ import annotations

from pathlib import Path

import seams

SECTION = '''class EchoModel(_Model):
    """Says the last turn backwards."""

    engine: Literal["echo"]
    model: str = "echo"


ModelSection = Annotated['''
ENGINE = '''"""Says the last turn backwards; of two labels the first is the likelier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.recipe.models import EchoModel


class EchoEngine:
    def __init__(self, section: EchoModel) -> None:
        self.model = section.model

    @classmethod
    async def open(cls, section: EchoModel) -> EchoEngine:
        return cls(section)

    def describe(self) -> Mapping[str, str]:
        return {"name": self.model, "engine": "echo"}

    async def generate(self, request: Request) -> Completion:
        words = request.messages[-1].content.split()
        if request.choices:
            logprobs = {label: -0.5 - place for place, label in enumerate(request.choices)}
            return Completion(request.choices[0], "length", len(words), 1, 0, logprobs)
        return Completion(" ".join(reversed(words)), "stop", len(words), len(words))

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None: ...
'''
RECIPE = """
name = "echo"
constitution = "general@1.1.0"
[prompts]
format = "sql"
query = "SELECT 'one two three' AS prompt"
[model.policy]
engine = "echo"
[revise]
rounds = 1
[judge]
principles = 1
"""


def test_a_further_engine_touches_three_files(tmp_path: Path) -> None:
    copy = seams.stub(
        tmp_path,
        new={"constitution/engines/echo.py": ENGINE},
        changed={
            "constitution/engines/__init__.py": [
                ("KINDS = {", 'KINDS = {\n    "echo": "constitution.engines.echo:EchoEngine",')
            ],
            "constitution/recipe/models.py": [
                ("ModelSection = Annotated[", SECTION),
                (
                    "TransformersModel | VLLMModel | OpenAIModel",
                    "EchoModel | TransformersModel | VLLMModel | OpenAIModel",
                ),
            ],
        },
        limit=3,
    )
    copy.write("recipes/echo.toml", RECIPE)
    copy.command("run", "recipes/echo.toml", "--warehouse", "w")
    said = copy.command("sql", "SELECT kind, text FROM responses ORDER BY kind", "--warehouse", "w")
    assert "three two one" in said
    votes = copy.command("sql", "SELECT judge, count(*) AS n FROM judgements GROUP BY ALL", "--warehouse", "w")
    assert "echo" in votes
