"""NeMo Data Designer: five text columns over a seed data set, with prompts in Jinja.

A column is one user message, so the conversation so far stands in its text. Columns keep no log-probabilities: votes
are asked for and paid for, and their labels taken.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from data_designer import config as dd
from data_designer.interface import DataDesigner

from benchmarks.figures import Moment, report
from benchmarks.job import CRITIQUE, MODEL, REVISION, VOTE, WINDOW, options, read_prompts

SO_FAR = "Human: {{ prompt }}\n\nAssistant: {{ initial }}\n\nHuman: " + CRITIQUE
PROMPTS = {
    "initial": "{{ prompt }}",
    "critique": SO_FAR,
    "revision": SO_FAR + "\n\nAssistant: {{ critique }}\n\nHuman: " + REVISION,
    "ab": VOTE.format(prompt="{{ prompt }}", first="{{ initial }}", second="{{ revision }}"),
    "ba": VOTE.format(prompt="{{ prompt }}", first="{{ revision }}", second="{{ initial }}"),
}


def model(alias: str, tokens: int, extra: dict[str, object] | None) -> dd.ModelConfig:
    return dd.ModelConfig(
        alias=alias,
        model=MODEL,
        provider="sim",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(
            temperature=1.0, top_p=1.0, max_tokens=tokens, max_parallel_requests=WINDOW, extra_body=extra
        ),
    )


def main() -> None:
    given = options()
    begun = Moment.now()
    prompts = pd.DataFrame({"prompt": list(read_prompts(given.prompts))})
    provider = dd.ModelProvider(name="sim", endpoint=given.base_url, provider_type="openai", api_key="SIM_API_KEY")
    designer = DataDesigner(artifact_path=Path(given.out) / "artifacts", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(disable_early_shutdown=True, max_in_flight_tasks=2 * WINDOW))
    models = [model("policy", 512, None), model("judge", 1, {"logprobs": True, "top_logprobs": 5})]
    builder = dd.DataDesignerConfigBuilder(model_configs=models)
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=prompts))
    for name, text in PROMPTS.items():
        alias = "judge" if name in ("ab", "ba") else "policy"
        builder.add_column(dd.LLMTextColumnConfig(name=name, prompt=text, model_alias=alias))
    made = designer.create(builder, num_records=len(prompts), dataset_name="bench").load_dataset()
    assert made[list(PROMPTS)].notna().all(axis=None)
    report(begun, len(made))


if __name__ == "__main__":
    main()
