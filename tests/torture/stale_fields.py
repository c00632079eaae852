"""Every field of a recipe: another value of it, and whether that makes another run."""

from __future__ import annotations

from typing import Any

BIG = 7
"""Another number, for fields that take most of them."""

TEMPLATED: dict[str, Any] = {
    "reasoning": "off",
    "chat_template_kwargs": {"date_string": "1 May 2026"},
    "template_date": "2026-05-01",
}
"""Of sections whose chat template can be spoken to."""
OTHER: dict[str, dict[str, Any]] = {
    "Recipe": {"name": "other", "seed": BIG, "constitution": "small@1.1.0"},
    "PromptsSection": {
        "field": "phrasing",
        "turns": "later",
        "join": ["phrasing"],
        "system": "rule",
        "split": "test",
        "config": "two",
        "rows": "two",
        "query": "SELECT * FROM 'prompts.jsonl' ORDER BY wording DESC",
        "answers": ["bad", "good"],
        "gold": "bad",
        "gold_values": {"So.": ""},
        "history": "earlier",
        "trees": True,
        "families": {"good": "other"},
        "tags": ["x"],
        "tags_field": "kinds",
        "reference": "rule",
        "rubric": "kinds",
        "limit": 2,
    },
    "ReviseSection": {"start": "best", "rounds": 3, "principles": ["harmless"], "exemplars": 1},
    "SamplingSection": {"temperature": 0.5, "top_p": 0.5, "max_tokens": 99, "stop": ["\n"]},
    "JudgeSection": {
        "method": "score",
        "clamp": [0.3, 0.7],
        "repeats": 2,
        "quorum": 1,
        "votes": "adaptive",
        "sure": 0.9,
        "aggregate": "majority",
        "control": "length",
        "calibrate": "isotonic",
        "principles": 2,
        "only": ["harmless"],
        "pairs": ["parent"],
        "contrast": ["b", "a"],
        "confirm": "reward",
        "margin": 0.1,
        "min_label_mass": 0.1,
    },
    "TournamentSection": {"rounds": 2},
    "SampleSection": {
        "model": "other",
        "n": 3,
        "system_prompt": "harmful",
        "principles": ["harmless"],
        "sees": "others",
        "about": {"name": "Mine", "version": "1"},
        "temperature": 0.5,
        "top_p": 0.5,
        "max_tokens": 99,
        "stop": ["\n"],
    },
    "Models": {"reward_model": {"engine": "fake"}},
    "RewardSection": {
        "perturbed": True,
        "negated": True,
        "by": ["rubric", "rule"],
        "principles": ["harmless"],
        "steps": 20,
        "combine": "veto",
        "bar": 0.7,
        "quorum": 0.5,
        "min_label_mass": 0.1,
    },
    "ReferenceSection": {
        "from": "best",
        "model": "other",
        "sees_prompt": True,
        "principles": ["harmless"],
        "bar": 0.7,
        "min_label_mass": 0.1,
        "temperature": 0.5,
        "top_p": 0.5,
        "max_tokens": 99,
        "stop": ["\n"],
    },
    "RubricSection": {
        "from": ["given", "prompt"],
        "model": "judge",
        "principles": ["harmless"],
        "at_least": 2,
        "at_most": 9,
        "check": "contrast",
        "format": "xml",
        "temperature": 0.5,
        "top_p": 0.5,
        "max_tokens": 99,
        "stop": ["\n"],
    },
    "MatchSection": {"how": "exact", "letters": "ABC", "key": "value", "unread": "wrong"},
    "LastTokenSection": {"token": "<y>", "c_ref": -5.0, "beta": 0.2, "anyway": False},
    "LengthSection": {"limit": 50, "penalty": 0.5, "ramp": 3},
    "RulesSection": {"words": [1, BIG], "refusal": "wanted", "wanted": ["x"], "unwanted": ["y"]},
    "VerdictSection": {"n": 3, "temperature": 0.5, "top_p": 0.5, "max_tokens": 99, "stop": ["\n"]},
    "ScoreSection": {"steps": 20},
    "PerturbSection": {"share": 0.5, "kinds": ["terse"]},
    "FakeModel": {
        "model": "other",
        "family": "other",
        "position_bias": 1.0,
        "length_bias": 1.0,
        "style_bias": 1.0,
        "noise": 2.0,
        "accuracy": 0.9,
        "verbosity": 2,
        "echo": 0.5,
        "thoughts": 1,
        "reasoning": "keep",
        "method": "rationale",
    },
    "TransformersModel": {
        "model": "models/b",
        "family": "other",
        "dtype": "bfloat16",
        "device": "cuda",
        "method": "rationale",
        **TEMPLATED,
    },
    "VLLMModel": {
        "model": "models/b",
        "family": "other",
        "adapter": "models/adapter-b",
        "vllm": {"dtype": "float16"},
        "method": "rationale",
        **TEMPLATED,
    },
    "OpenAIModel": {
        **TEMPLATED,
        "model": "other",
        "family": "other",
        "dialect": "openai",
        "extra_body": {"top_k": 1},
        "vllm": {"quantization": "fp8"},
        "omit": ["seed"],
        "method": "rationale",
    },
}
"""Per section another value of each field that makes another run."""

PRICED = ({"output": 2.0}, "what it costs")
SAME: dict[str, dict[str, tuple[Any, str]]] = {
    "Recipe": {
        "description": ("other", "a note to people"),
        "templates": ("same", "the texts in the folder are covered"),
    },
    "PromptsSection": {
        "path": ("same.jsonl", "what the file holds is covered"),
        "format": ("jsonl", "the prompts that are read are covered"),
        "benchmark": (None, "the prompts that are read are covered"),
        "ignore": (["phrasing"], "the prompts that are read are covered"),
        "json_text": ("text", "the prompts that are read are covered"),
        "gold_highest": (["of good", "of bad"], "which answer is gold is covered, not how that is said"),
        "gold_lowest": (["of bad", "of good"], "which answer is gold is covered, not how that is said"),
        "dataset": ("same-set", "what the folder holds is covered"),
        "last_answer": ("refuse", "the prompts that are read are covered"),
        "pitfalls": ("fault", "the prompts that are read are covered"),
        "roles": ({"robot": "user"}, "the prompts that are read are covered"),
        "on_bad_row": ("skip", "the prompts that are read are covered"),
        "id_field": ("phrasing", "it is kept with the prompts, and asked of no model"),
        "metadata": (["rule"], "it is kept with the prompts, and asked of no model"),
    },
    "BudgetSection": {"limit": (BIG, "how much is done, not what"), "currency": ("EUR", "a name of the limit")},
    "Price": dict.fromkeys(("input", "cached", "output", "gpu_hour"), (0.5, "what it costs"))
    | {"gpus": (2, "what it costs")},
    "OutputSection": {
        "slice": (1, "how prompts are parted"),
        "window": (3, "how many are in flight"),
        "flush_rows": (BIG, "when rows are written"),
        "flush_seconds": (1.5, "when rows are written"),
        "stop_at_failures": (0.9, "when a start ends"),
    },
    "FakeModel": {"price": PRICED, "latency_s": (0.1, "how fast"), "failure_rate": (0.1, "what failed is asked again")},
    "TransformersModel": {
        "price": PRICED,
        "revision": ("abc", "what the files hold is covered"),
        "max_batch": (BIG, "how many at once"),
    },
    "VLLMModel": {"price": PRICED, "revision": ("abc", "what the files hold is covered")},
    "OpenAIModel": {
        "price": PRICED,
        "base_url": ("http://127.0.0.1:2/v1", "where; that it serves the same model is checked at each start"),
        "api_key_env": ("OTHER_KEY", "who pays"),
        "timeout_s": (1.5, "how long is waited"),
        "retries": (1, "how often is asked"),
        "concurrency": (BIG, "how many at once"),
        "cache_salt": ("other", "with whom prefixes are shared"),
        "batch": (True, "when it is answered, and for how much"),
        "batch_wait_s": (1.5, "when batches go out"),
        "batch_poll_s": (1.5, "how often is asked for them"),
    },
}
"""Per section the fields that make no other run, with another value and the reason."""

ENGINES: dict[str, dict[str, Any]] = {
    "FakeModel": {"engine": "fake"},
    "TransformersModel": {"engine": "transformers", "model": "models/a"},
    "VLLMModel": {"engine": "vllm", "model": "models/a", "adapter": "models/adapter-a"},
    "OpenAIModel": {"engine": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"},
}
PRINCIPLES = """
name = "small"
version = "VERSION"
description = "Three principles."
[[system_prompts]]
id = "kind"
text = "{{principles}}"
[[system_prompts]]
id = "harmful"
text = "{{against}}"
[[system_prompts]]
id = "others"
text = "{{answers}} {{aim}}"
""" + "".join(
    f"""
[[principles]]
id = "{name}"
tags = ["{name}"]
critique_request = "What is harmful in it?"
revision_request = "Take that out."
comparison_question = "Which answer is more {name}?"
aim = "Be {name}."
against = "Do not be {name}."
criteria = [{{ question = "Is it {name}?", kind = "essential" }}]
"""
    for name in ("harmless", "helpful", "honest")
)
ROWS = [
    {
        "wording": f"How does thing {n} work?",
        "phrasing": f"What is {n}?",
        "rule": "Be brief.",
        "kinds": [f"k{n}"],
        "checks": ["Is it brief?", "Is it kind?"],
        "said": [f"Why {n}?", "And then?"],
        "later": [f"Why {n}?", "And after that?"],
        "good": "So.",
        "bad": "No",
        "of good": 2,
        "of bad": 1,
        "earlier": [["Hi", "Hello"]],
        "message_id": n,
        "role": "prompter",
        "text": f"Say {n}.",
    }
    for n in range(3)
]
RECIPE = {
    "name": "stale",
    "constitution": "small@1.0.0",
    "prompts": {"path": "prompts.jsonl", "field": "wording", "answers": ["good", "bad"], "gold": "good"},
    "model": {"policy": {"engine": "fake", "price": {"input": 1.0}}, "jury": {"a": {"engine": "fake"}}},
    "judge": {},
    "perturb": {},
    "budget": {"limit": 100.0},
}
