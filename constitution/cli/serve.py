"""`constitution serve`: the `vllm serve` command that fits a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from constitution.engines.vllm_args import serve_command
from constitution.errors import RecipeError
from constitution.recipe import Models, ModelSection, OpenAIModel, VLLMModel, load_recipe

PORT = 8000
"""Port of the first server, where the recipe names no address."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Set a value of the recipe (again for more).")
def serve(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Print the `vllm serve` command for each server that RECIPE needs; nothing is started.

    A command carries the recipe's engine arguments ([model.policy.vllm]) and what runs rely on: scheduling by priority,
    cached tokens reported, no sampling defaults of the model. Remarks are comments: the output is a shell script.

    \b
    Example:
      constitution serve recipes/vllm.toml
    """
    loaded = load_recipe(recipe, overrides)
    for remarks, command in servers(loaded.model, answers=loaded.asks_policy):
        for remark in remarks:
            click.echo(f"# {remark}")
        click.echo(shell(command))


def servers(models: Models, answers: bool = True) -> Iterator[tuple[list[str], list[str]]]:
    """Remarks and argv of each server; roles with equal sections share theirs. answers: False leaves out a
    policy that does not judge. Raises RecipeError where none of the models can be served by vLLM."""
    roles = _roles(models, answers)
    able = {role: section for role, section in roles.items() if isinstance(section, VLLMModel | OpenAIModel)}
    if not able:
        engines = " and ".join(sorted({section.engine for section in roles.values()}))
        raise RecipeError(
            f"no model of this recipe is served by vLLM, engine {engines} runs without a server",
            hint='name the model in a section with engine = "vllm" or engine = "openai"',
        )
    made: list[list[str]] = []
    port = PORT
    for role, section in able.items():
        for address in addresses(section, port):
            command = serve_command(section, address)
            if command in made:
                continue  # two roles on one server
            made.append(command)
            yield [role, *_remarks(section, address)], command
            port += 1


def _roles(models: Models, answers: bool) -> dict[str, ModelSection]:
    """Each section once, by the roles that share it: `policy and judge`, `judge <name>`, `pool <name>`."""
    sections = {role: section for role, section in models.roles.items() if answers or role != "policy"}
    shared: list[tuple[list[str], ModelSection]] = []
    for role, section in sections.items():
        same = next((roles for roles, other in shared if other.bare == section.bare), None)
        if same is None:
            shared.append(([role], section))
        else:
            same.append(role)
    return {" and ".join(roles): section for roles, section in shared}


def addresses(section: VLLMModel | OpenAIModel, port: int) -> tuple[str, ...]:
    return section.base_urls if isinstance(section, OpenAIModel) else (f"http://127.0.0.1:{port}/v1",)


def _remarks(section: VLLMModel | OpenAIModel, address: str) -> list[str]:
    if isinstance(section, VLLMModel):
        return [f'the recipe runs it in its own process; for the server say engine = "openai", base_url = "{address}"']
    url = urlsplit(address)
    found = []
    if url.scheme == "https":
        found.append(f"{url.netloc} is https: put a proxy before it, or add --ssl-keyfile and --ssl-certfile")
    if section.api_key_env:
        found.append(f"to ask for a key, set VLLM_API_KEY there to what {section.api_key_env} holds here")
    return found


def shell(command: list[str]) -> str:
    """`command` for a shell, an option a line."""
    lines: list[list[str]] = [[]]
    for word in command:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(" ".join(line) for line in lines)
