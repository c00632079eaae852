"""Several vLLM engines on one accelerator: all in its memory, or in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from constitution.engines import vllm_start
from constitution.engines.weights import find, first_line
from constitution.errors import ModelLoadError, RecipeError
from constitution.recipe import VLLMModel

MEMORY = 0.9
"""Share of an accelerator's memory that all engines together take."""
CACHES = 0.4
"""Share that must be left for key-value caches, or engines together would be slower than in turns."""


@dataclass(frozen=True, slots=True)
class Placement:
    turns: bool
    memory: tuple[float | None, ...]
    """Share of the accelerator's memory for each engine; None: what the recipe or vLLM says."""


def place(wanted: Literal["auto", "together", "turns"], sections: Sequence[VLLMModel]) -> Placement:
    """How the engines of `sections`, each another model, share an accelerator. Imports vLLM and reads model folders.

    Raises RecipeError for turns where there is no sleep mode, and for shares that leave nothing.
    """
    alone: tuple[float | None, ...] = (None,) * len(sections)
    if len(sections) < 2:
        return Placement(False, alone)
    if wanted == "turns" and not vllm_start.can_sleep():
        raise RecipeError(
            'model.placement: "turns" needs vLLM\'s sleep mode, which there is on GPUs only', hint='say "together"'
        )
    if vllm_start.on_cpu():
        weights, total = [0] * len(sections), 1
    else:
        weights, total = [_weights_on_device(section) for section in sections], vllm_start.device_memory()
    if wanted == "turns" or (wanted == "auto" and vllm_start.can_sleep() and not fit(weights, total)):
        return Placement(True, alone)
    given = [section.vllm.get("gpu_memory_utilization") for section in sections]
    return Placement(False, shares(weights, total, given))


def fit(weights: Sequence[int], total: int) -> bool:
    """Whether so many bytes of weights leave enough of `total` bytes for caches."""
    return sum(weights) <= (MEMORY - CACHES) * total


def shares(weights: Sequence[int], total: int, given: Sequence[float | None]) -> tuple[float | None, ...]:
    """Each engine's share of the memory: its weights and an equal part of what no weights need; None where the recipe
    has `given` one. Raises RecipeError where nothing is left."""
    open_ = [bytes / total for bytes, share in zip(weights, given, strict=True) if share is None]
    if not open_:
        return (None,) * len(given)
    rest = (MEMORY - sum(share for share in given if share is not None) - sum(open_)) / len(open_)
    if rest <= 0:
        raise RecipeError(
            "model.placement: the models do not fit into the accelerator's memory together",
            hint='say "turns", or lower vllm.gpu_memory_utilization of one of them',
        )
    found = (bytes / total + rest for bytes in weights)
    return tuple(round(mine, 3) if share is None else None for mine, share in zip(found, given, strict=True))


def _weights_on_device(section: VLLMModel) -> int:
    """Bytes of weights on each accelerator."""
    folder = find(section)
    devices = section.vllm.get("tensor_parallel_size", 1) * section.vllm.get("pipeline_parallel_size", 1)
    files = list(folder.glob("*.safetensors"))
    # Some publishers (Mistral) put the same weights there a second time, in a form of their own.
    files = [path for path in files if not path.name.startswith("consolidated")] or files
    size = sum(path.stat().st_size for path in files) or _estimate(section, folder)
    return int(size) // max(int(devices), 1)


def _estimate(section: VLLMModel, folder: Path) -> int:
    """For a model without weights: two bytes for each parameter of its shape."""
    import torch
    import transformers

    library: Any = transformers
    try:
        config = library.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            module = library.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a broken folder makes the library raise
        raise ModelLoadError(f"model {section.model}: cannot be loaded: {first_line(error)}") from error
    return 2 * sum(int(each.numel()) for each in module.parameters())
