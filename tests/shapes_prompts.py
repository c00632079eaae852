"""Public files of prompts, some with an answer, as their documentation shows them."""

from __future__ import annotations

import json

from shapes_case import HF, SCORES, Case, chat, said, sharegpt

CASES: dict[str, Case] = {
    "Anthropic red-team-attempts": Case(
        HF + "Anthropic/hh-rlhf/tree/main/red-team-attempts",
        [{"min_harmlessness_score_transcript": -0.4, "num_params": "52B", "model_type": "rlhf", "rating": 0.0,
          "transcript": said("q1", "a1", "q2", "a2"), "task_description": "try it", "red_team_member_id": 1,
          "task_description_harmlessness_score": -1.1, "is_upworker": True, "tags": ["Other"]}],
        prompts=1, turns=3, answers=1, beside=("num_params", "model_type", "task_description", "tags"),
    ),
    "BeaverTails": Case(
        HF + "PKU-Alignment/BeaverTails",
        [{"prompt": "q", "response": "a", "category": {"animal_abuse": False, "child_abuse": False}, "is_safe": True}],
        prompts=1, turns=1, answers=1,
    ),
    "HelpSteer2": Case(
        HF + "nvidia/HelpSteer2",
        [{"prompt": "q", "response": "a", **dict.fromkeys(SCORES, 3)}], prompts=1, turns=1, answers=1,
    ),
    "lmsys-chat-1m": Case(
        HF + "lmsys/lmsys-chat-1m",
        [{"conversation_id": "x", "model": "m", "conversation": chat("q1", "a1", "q2", "a2"), "turn": 2,
          "language": "English", "openai_moderation": [{"flagged": False}], "redacted": False}],
        prompts=1, turns=3, answers=1, form="parquet", beside=("conversation_id", "model", "language"),
    ),
    "WildChat": Case(
        HF + "allenai/WildChat-1M",
        [{"conversation_hash": "x", "model": "gpt-4", "timestamp": "2024-01-01", "turn": 1, "language": "English",
          "conversation": [{**turn, "country": "Peru", "hashed_ip": "ip", "header": {"user-agent": "ua"},
          "redacted": False,
                            "language": "English", "toxic": False, "turn_identifier": 7, "timestamp": None,
                            "state": "s"}
                           for turn in chat("q", "a")], "openai_moderation": [], "toxic": False, "state": "s",
          "country": "Peru", "hashed_ip": "ip", "header": {"user-agent": "ua"}}],
        prompts=1, turns=1, answers=1, ignored=("country", "hashed_ip", "header", "language", "turn_identifier"),
        beside=("conversation_hash", "model", "timestamp", "state", "country", "hashed_ip", "user-agent", "language"),
    ),
    "Alpaca": Case(
        "https://github.com/tatsu-lab/stanford_alpaca",
        [{"instruction": "q1", "input": "i1", "output": "a1"}, {"instruction": "q2", "input": "", "output": "a2"}],
        prompts=2, turns=2, answers=2, form="json",
    ),
    "Alpaca of LLaMA-Factory": Case(
        "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
        [{"instruction": "q3", "input": "i", "output": "a3", "system": "Be kind.", "history": [["q1", "a1"], ["q2",
         "a2"]]},
         {"instruction": "q4", "input": "", "output": "a4", "system": "", "history": []}],
        prompts=2, turns=7, systems=1, answers=2, form="json",
    ),
    "ShareGPT": Case(
        HF + "anon8231489123/ShareGPT_Vicuna_unfiltered",
        [{"id": "x", "conversations": sharegpt("q1", "a1", "q2", "a2")}, {"id": "y", "conversations": sharegpt("q3",
         "a3")}],
        prompts=2, turns=4, answers=2, form="json", beside=("id",),
    ),
    "ShareGPT, items": Case(
        "https://github.com/lm-sys/FastChat/blob/main/docs/commands/data_cleaning.md",
        [{"id": "x", "items": sharegpt("q1", "a1")}], prompts=1, turns=1, answers=1, form="json", beside=("id",),
    ),
    "OpenHermes": Case(
        HF + "teknium/OpenHermes-2.5",
        [{"conversations": sharegpt("system:Be kind.", "q", "a"), "source": "airoboros", "category": "x", "title": None,
          "system_prompt": None, "custom_instruction": None}],
        prompts=1, turns=2, systems=1, answers=1, beside=("source", "category"),
    ),
    "OpenOrca": Case(
        HF + "Open-Orca/OpenOrca",
        [{"id": "x", "system_prompt": "Be kind.", "question": "q1", "response": "a1"},
         {"id": "y", "system_prompt": "", "question": "q2", "response": "a2"}],
        prompts=2, turns=3, systems=1, answers=2, form="parquet", beside=("id",),
    ),
    "Dolly": Case(
        HF + "databricks/databricks-dolly-15k",
        [{"instruction": "q1", "context": "c1", "response": "a1", "category": "closed_qa"},
         {"instruction": "q2", "context": "", "response": "a2", "category": "open_qa"}],
        prompts=2, turns=2, answers=2, beside=("category",),
    ),
    "Capybara": Case(
        HF + "LDJnr/Capybara",
        [{"source": "x", "conversation": [{"input": "q1", "output": "a1"}, {"input": "q2", "output": "a2"}]}],
        prompts=1, turns=3, answers=1, beside=("source",),
    ),
    "Magpie": Case(
        HF + "Magpie-Align/Magpie-Pro-300K-Filtered",
        [{"conversation_id": "x", "instruction": "q", "response": "a", "conversations": sharegpt("q", "a"),
          "gen_input_configs": {"temperature": 1.0}}],
        prompts=1, turns=1, answers=1, beside=("conversation_id",),
    ),
    "tulu-3-sft-mixture": Case(
        HF + "allenai/tulu-3-sft-mixture",
        [{"id": "x", "messages": chat("system:Be kind.", "q1", "a1"), "source": "s"}],
        prompts=1, turns=2, systems=1, answers=1, form="parquet", beside=("id", "source"),
    ),
    "AlpacaEval": Case(
        HF + "tatsu-lab/alpaca_eval",
        [{"dataset": "helpful_base", "instruction": "q", "output": "a", "generator": "m"}],
        prompts=1, turns=1, answers=1, form="json", beside=("dataset", "generator"),
    ),
    "Arena-Hard 2.0": Case(
        "https://github.com/lmarena/arena-hard-auto",
        [{"uid": "x", "category": "hard_prompt", "subcategory": "code", "prompt": "q", "language": "English"}],
        prompts=1, turns=1, beside=("uid", "category", "subcategory", "language"),
    ),
    "TruthfulQA": Case(
        "https://github.com/sylinrl/TruthfulQA/blob/main/TruthfulQA.csv",
        [{"Type": "Adversarial", "Category": "Law", "Question": "q, really?", "Best Answer": "a",
         "Correct Answers": "a; b",
          "Incorrect Answers": "c; d", "Source": "https://example.org"}],
        prompts=1, turns=1, form="csv",
        beside=("Type", "Category", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"),
    ),
    "XSTest": Case(
        "https://github.com/paul-rottger/xstest",
        [{"id": "v2-1", "prompt": "q", "type": "homonyms", "label": "safe", "focus": "kill", "note": ""}],
        prompts=1, turns=1, form="csv", beside=("id", "type", "label", "focus"),
    ),
    "HarmBench": Case(
        "https://github.com/centerforaisafety/HarmBench/tree/main/data/behavior_datasets",
        [{"Behavior": "q1", "FunctionalCategory": "standard", "SemanticCategory": "illegal", "Tags": "",
         "ContextString": "",
          "BehaviorID": "q_one"},
         {"Behavior": "q2", "FunctionalCategory": "contextual", "SemanticCategory": "illegal", "Tags": "context",
          "ContextString": "c2", "BehaviorID": "q_two"}],
        prompts=2, turns=2, form="csv", ignored=("ContextString",),
        beside=("FunctionalCategory", "SemanticCategory", "Tags", "BehaviorID"),
    ),
    "AdvBench": Case(
        "https://github.com/llm-attacks/llm-attacks/blob/main/data/advbench/harmful_behaviors.csv",
        [{"goal": "q1", "target": "Sure, here is"}, {"goal": "q2", "target": "Sure, here"}],
        prompts=2, turns=2, answers=2, form="csv",
    ),
    "ToxicChat": Case(
        HF + "lmsys/toxic-chat",
        [{"conv_id": "x", "user_input": "q", "model_output": "a", "human_annotation": True, "toxicity": 0,
          "jailbreaking": 0, "openai_moderation": '[["sexual", 0.1]]'}],
        prompts=1, turns=1, answers=1, form="csv", beside=("conv_id", "human_annotation", "toxicity",
        "openai_moderation"),
    ),
    "do-not-answer": Case(
        HF + "LibrAI/do-not-answer",
        [{"id": 1, "risk_area": "Malicious Uses", "types_of_harm": "x", "specific_harms": "y", "question": "q",
          "GPT4_response": "no", "GPT4_harmful": 0, "GPT4_action": 0}],
        prompts=1, turns=1, form="parquet", beside=("risk_area", "types_of_harm", "specific_harms", "GPT4_response"),
    ),
    "GSM8K": Case(HF + "openai/gsm8k", [{"question": "q", "answer": "a #### 3"}], prompts=1, turns=1, answers=1),
    "FLAN": Case(
        HF + "Open-Orca/FLAN",
        [{"inputs": "q", "targets": "a", "_template_idx": 3, "_task_source": "Flan2021", "_task_name": "x",
          "_template_type": "zs_opt"}],
        prompts=1, turns=1, answers=1, form="parquet", beside=("_task_source", "_task_name", "_template_type"),
    ),
    "no_robots": Case(
        HF + "HuggingFaceH4/no_robots",
        [{"prompt": "q", "prompt_id": "x", "messages": chat("q", "a"), "category": "Chat"}],
        prompts=1, turns=1, answers=1, form="parquet", beside=("prompt_id", "category"),
    ),
    "tldr": Case(
        HF + "trl-lib/tldr", [{"prompt": "SUBREDDIT: r/x\n\nPOST: q\n\nTL;DR:", "completion": " a"}],
        prompts=1, turns=1, answers=1,
    ),
    "TRL unpaired preference (KTO)": Case(
        "https://huggingface.co/docs/trl/dataset_formats",
        [{"prompt": "q1", "completion": "a1", "label": True}, {"prompt": "q2", "completion": "a2", "label": False}],
        prompts=2, turns=2, answers=2,
    ),
    "TRL stepwise": Case(
        "https://huggingface.co/docs/trl/dataset_formats",
        [{"prompt": "q", "completions": ["step 1", "step 2"], "labels": [True, False]}], prompts=1, turns=1,
        beside=("completions",),
    ),
    "OpenAI batch": Case(
        "https://platform.openai.com/docs/guides/batch",
        [{"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions",
          "body": {"model": "m", "messages": chat("system:Be kind.", "q"), "max_tokens": 9}}],
        prompts=1, turns=2, systems=1, beside=("custom_id", "method", "url", "model"),
    ),
    "OpenAI fine-tuning": Case(
        "https://platform.openai.com/docs/guides/supervised-fine-tuning",
        [{"messages": [*chat("system:Be kind.", "q1"), {"role": "assistant", "content": "a1", "weight": 0},
                       {"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2", "weight": 1}]}],
        prompts=1, turns=4, systems=1, answers=1, ignored=("weight",),
    ),
    "Anthropic batch": Case(
        "https://docs.anthropic.com/en/docs/build-with-claude/batch-processing",
        [{"custom_id": "r1", "params": {"model": "m", "max_tokens": 9, "system": [
            {"type": "text", "text": "Be kind."}], "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]}]}}],
        prompts=1, turns=2, systems=1, beside=("custom_id", "model", "type"),
    ),
    "ShareGPT, other names": Case(
        "https://github.com/lm-sys/FastChat/blob/main/fastchat/data/clean_sharegpt.py",
        [{"id": "x", "conversations": chat("q1", "a1", "q2", "a2", roles=("user", "chatgpt"), keys=("from", "value"))}],
        prompts=1, turns=3, answers=1, form="json", beside=("id",),
    ),
    "Gemini tuning": Case(
        "https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-prepare",
        [{"systemInstruction": {"role": "system", "parts": [{"text": "Be kind."}]}, "contents": [
            {"role": "user", "parts": [{"text": "q1"}]}, {"role": "model", "parts": [{"text": "a1"}]}]}],
        prompts=1, turns=2, systems=1, answers=1,
    ),
    "OpenAI Responses, batch": Case(
        "https://platform.openai.com/docs/api-reference/responses",
        [{"custom_id": "r1", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "q"}]}]}}],
        prompts=1, turns=2, systems=1, beside=("custom_id", "method", "url", "model", "type"),
    ),
    "verl": Case(
        "https://verl.readthedocs.io/en/latest/preparation/prepare_data.html",
        [{"data_source": "openai/gsm8k", "prompt": chat("q"), "ability": "math",
          "reward_model": {"style": "rule", "ground_truth": "3"},
          "extra_info": {"split": "train", "index": 0, "answer": "a"}}],
        prompts=1, turns=1, form="parquet", beside=("data_source", "ability", "style", "ground_truth", "split",
        "answer"),
    ),
    "datasets, columns of turns": Case(
        "https://huggingface.co/docs/datasets/about_dataset_features",
        [{"messages": {"role": ["system", "user", "assistant", "user"], "content": ["Be kind.", "q1", "a1", "q2"]}}],
        prompts=1, turns=4, systems=1, form="parquet",
    ),
    "a CSV of pandas with messages": Case(
        "https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_csv.html",
        [{"id": "x", "prompt": json.dumps(chat("q1", "a1", "q2"))}], prompts=1, turns=3, form="csv", beside=("id",),
    ),
}  # fmt: skip
