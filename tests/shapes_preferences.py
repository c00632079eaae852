"""Public files whose answers are compared, as their documentation shows them."""

from __future__ import annotations

from shapes_case import HF, Case, chat, said, sharegpt

CASES: dict[str, Case] = {
    "Anthropic hh-rlhf": Case(
        HF + "Anthropic/hh-rlhf",
        [{"chosen": said("q1", "a1", "q2", "good"), "rejected": said("q1", "a1", "q2", "bad")},
         {"chosen": said("q3", "fine"), "rejected": said("q3", "poor")}],
        prompts=2, turns=4, answers=4, gold=(2, 0),
    ),
    "rm-static": Case(
        HF + "Dahoas/rm-static",
        [{"prompt": said("q1", "a1", "q2", ""), "response": " good", "chosen": " good", "rejected": " bad"}],
        prompts=1, turns=3, answers=2, gold=(1, 0),
    ),
    "PKU-SafeRLHF": Case(
        HF + "PKU-Alignment/PKU-SafeRLHF",
        [{"prompt": f"q{n}", "response_0": f"a{n}", "response_1": f"b{n}", "prompt_source": "x",
         "is_response_0_safe": True,
          "is_response_1_safe": False, "better_response_id": n % 2, "safer_response_id": 0} for n in range(3)],
        prompts=3, turns=3, answers=6, gold=(2, 1), beside=("prompt_source",),
    ),
    "UltraFeedback": Case(
        HF + "openbmb/UltraFeedback",
        [{"source": "flan", "instruction": "q1", "models": ["m1", "m2"], "correct_answers": ["None"],
          "incorrect_answers": ["None"], "completions": [
              {"model": "m1", "response": "a1", "overall_score": 6.5, "critique": "good", "fine-grained_score": 4.0,
               "principle": "honesty", "custom_system_prompt": "Be honest."},
              {"model": "m2", "response": "a2", "overall_score": 8.0, "critique": "better", "fine-grained_score": 5.0,
               "principle": "honesty", "custom_system_prompt": "Be brief."}]}],
        prompts=1, turns=1, answers=2, gold=(0, 1), ignored=("completions[].custom_system_prompt",),
        beside=("source", "models", "model", "critique", "principle", "correct_answers", "incorrect_answers"),
    ),
    "ultrafeedback_binarized": Case(
        HF + "HuggingFaceH4/ultrafeedback_binarized",
        [{"prompt": "q", "prompt_id": "ab", "chosen": chat("q", "good"), "rejected": chat("q", "bad"),
          "messages": chat("q", "good"), "score_chosen": 8.0, "score_rejected": 3.0}],
        prompts=1, turns=1, answers=2, gold=(1, 0), beside=("prompt_id",),
    ),
    "HelpSteer2, preference": Case(
        HF + "nvidia/HelpSteer2/tree/main/preference",
        [{"split": "train", "prompt": f"q{n}", "response_1": f"a{n}", "response_2": f"b{n}",
         "preference_strength": strength,
          "preference_statement": "@Response 1 is better", "preference_elaboration": "since",
          "all_preferences_unprocessed": []}
         for n, strength in enumerate((-3, -1, 2, 0))],
        prompts=4, turns=4, answers=8, gold=(2, 1), beside=("split", "preference_statement", "preference_elaboration"),
    ),
    "HelpSteer3": Case(
        HF + "nvidia/HelpSteer3",
        [{"domain": "general", "language": "english", "context": chat("q1", "a1", f"q{n}"), "response1": f"a{n}",
          "response2": f"b{n}", "overall_preference": strength,
          "individual_preference": [{"score": strength, "reasoning": "since", "feedback1": "x", "feedback2": "y"}]}
         for n, strength in enumerate((-2, 3, 1), 2)],
        prompts=3, turns=9, answers=6, gold=(1, 2), form="parquet",
        beside=("domain", "language", "reasoning", "feedback1", "feedback2"),
    ),
    "SHP": Case(
        HF + "stanfordnlp/SHP",
        [{"post_id": "p", "domain": "askphysics_train", "upvote_ratio": 0.9, "history": f"q{n}", "c_root_id_A": "x",
          "c_root_id_B": "y", "score_A": 9, "score_B": 4, "human_ref_A": f"a{n}", "human_ref_B": f"b{n}",
          "labels": label,
          "seconds_difference": 10.0, "score_ratio": 2.0} for n, label in enumerate((1, 0, 0))],
        prompts=3, turns=3, answers=6, gold=(1, 2), beside=("post_id", "domain", "c_root_id_A", "c_root_id_B"),
    ),
    "chatbot_arena_conversations": Case(
        HF + "lmsys/chatbot_arena_conversations",
        [{"question_id": "x", "model_a": "m1", "model_b": "m2", "winner": winner, "judge": "arena_user_1", "turn": 1,
          "conversation_a": chat(f"q{n}", f"a{n}"), "conversation_b": chat(f"q{n}", f"b{n}"), "anony": True,
          "language": "English", "tstamp": 1.5, "openai_moderation": {"flagged": False}, "toxic_chat_tag": {}}
         for n, winner in enumerate(("model_a", "tie", "model_b", "tie (bothbad)", "model_b"))],
        prompts=5, turns=5, answers=10, gold=(1, 2),
        beside=("question_id", "model_a", "model_b", "winner", "judge", "language"),
    ),
    "oasst, trees": Case(
        HF + "OpenAssistant/oasst1",
        [{"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": {
            "message_id": "1", "text": "q1", "role": "prompter", "lang": "en", "synthetic": False, "replies": [
                {"message_id": "2", "text": "a1", "role": "assistant", "lang": "en", "rank": 1, "replies": []},
                {"message_id": "3", "text": "a2", "role": "assistant", "lang": "en", "rank": 0, "replies": [
                    {"message_id": "4", "text": "q2", "role": "prompter", "lang": "en", "replies": []}]}]}}],
        prompts=2, turns=4, answers=2, gold=(0, 1), beside=("message_tree_id", "tree_state", "message_id", "lang"),
    ),
    "oasst2, flat": Case(
        HF + "OpenAssistant/oasst2",
        [{"message_id": id, "parent_id": parent, "user_id": "u", "created_date": "2023-01-01", "text": text,
         "role": role,
          "lang": "en", "review_count": 3, "review_result": True, "deleted": False, "rank": rank, "synthetic": False,
          "model_name": None, "message_tree_id": "1", "tree_state": "ready_for_export",
          "emojis": {"name": ["+1"], "count": [1]}, "labels": {"name": ["spam"], "value": [0.0], "count": [3]}}
         for id, parent, text, role, rank in (
             ("1", None, "q1", "prompter", None), ("2", "1", "a1", "assistant", 0), ("3", "1", "a2", "assistant", 1),
             ("4", "2", "q2", "prompter", None), ("5", "4", "a3", "assistant", None))],
        prompts=2, turns=4, answers=3, gold=(1, 0), form="parquet",
        beside=("message_id", "parent_id", "user_id", "created_date", "lang", "message_tree_id", "tree_state", "name"),
    ),
    "Alpaca preference of LLaMA-Factory": Case(
        "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
        [{"instruction": "q", "input": "i", "chosen": "good", "rejected": "bad"}],
        prompts=1, turns=1, answers=2, gold=(1, 0), form="json",
    ),
    "ShareGPT preference of LLaMA-Factory": Case(
        "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
        [{"conversations": sharegpt("q1", "a1", "q2"), "chosen": {"from": "gpt", "value": "good"},
          "rejected": {"from": "gpt", "value": "bad"}, "system": "Be kind."}],
        prompts=1, turns=4, systems=1, answers=2, gold=(1, 0), form="json",
    ),
    "orca_dpo_pairs": Case(
        HF + "Intel/orca_dpo_pairs",
        [{"system": "Be kind.", "question": "q", "chosen": "good", "rejected": "bad"}],
        prompts=1, turns=2, systems=1, answers=2, gold=(1, 0),
    ),
    "tulu-3 preferences": Case(
        HF + "allenai/llama-3.1-tulu-3-8b-preference-mixture",
        [{"id": "x", "source": "s", "prompt": "q", "chosen": chat("q", "good"), "rejected": chat("q", "bad"),
          "chosen_rating": 5.0, "rejected_rating": 2.0, "chosen_model": "m1", "rejected_model": "m2"}],
        prompts=1, turns=1, answers=2, gold=(1, 0), beside=("id", "source", "chosen_model", "rejected_model"),
    ),
    "Nectar": Case(
        HF + "berkeley-nest/Nectar",
        [{"prompt": said("q1", ""), "turns": 1, "num_responses": 3, "source": ["x"], "good_natured": True, "answers": [
            {"answer": "a1", "model": "m1", "rank": 2.0}, {"answer": "a2", "model": "m2", "rank": 1.0},
            {"answer": "a3", "model": "m3", "rank": 3.0}]}],
        prompts=1, turns=1, answers=3, gold=(0, 1, 0), ignored=("turns",), beside=("source", "model"),
    ),
    "AlpacaFarm preferences": Case(
        HF + "tatsu-lab/alpaca_farm",
        [{"instruction": f"q{n}", "input": "", "output_1": f"a{n}", "output_2": f"b{n}", "preference": n,
         "raw_preference": n}
         for n in (1, 2, 2)],
        prompts=3, turns=3, answers=6, gold=(1, 2), form="json",
    ),
    "RewardBench": Case(
        HF + "allenai/reward-bench",
        [{"prompt": "q", "chosen": "good", "chosen_model": "m1", "rejected": "bad", "rejected_model": "m2",
          "subset": "donotanswer", "id": 7}],
        prompts=1, turns=1, answers=2, gold=(1, 0), form="parquet", beside=("chosen_model", "rejected_model", "subset"),
    ),
    "JudgeBench": Case(
        "https://github.com/ScalerLab/JudgeBench",
        [{"pair_id": "x", "original_id": "1", "source": "mmlu-pro", "question": f"q{n}", "response_model": "m",
          "response_A": f"a{n}", "response_B": f"b{n}", "label": label} for n, label in enumerate(("A>B", "B>A",
          "B>A"))],
        prompts=3, turns=3, answers=6, gold=(1, 2), beside=("pair_id", "original_id", "source", "response_model",
        "label"),
    ),
    "LLMBar": Case(
        "https://github.com/princeton-nlp/LLMBar",
        [{"input": f"q{n}", "output_1": f"a{n}", "output_2": f"b{n}", "label": n} for n in (2, 1)],
        prompts=2, turns=2, answers=4, gold=(1, 1), form="json",
    ),
    "summarize_from_feedback": Case(
        HF + "openai/summarize_from_feedback",
        [{"info": {"id": "t3", "post": f"q{n}", "title": "t", "subreddit": "r", "site": None, "article": None},
          "summaries": [{"text": f"a{n}", "policy": "sup1", "note": "n"}, {"text": f"b{n}", "policy": "ref",
          "note": "n"}],
          "choice": choice, "worker": "w", "batch": "b3", "split": "train", "extra": {"confidence": 1}}
         for n, choice in enumerate((0, 1, 1))],
        prompts=3, turns=3, answers=6, gold=(1, 2),
        beside=("id", "title", "subreddit", "policy", "note", "worker", "batch", "split"),
    ),
    "webgpt_comparisons": Case(
        HF + "openai/webgpt_comparisons",
        [{"question": {"dataset": "eli5", "id": "x", "full_text": f"q{n}"}, "quotes_0": {"title": ["t"],
         "extract": ["e"]},
          "answer_0": f"a{n}", "tokens_0": {"prefix": "p"}, "score_0": score, "quotes_1": {"title": [], "extract": []},
          "answer_1": f"b{n}", "tokens_1": {"prefix": "p"}, "score_1": -score} for n, score in enumerate((0.5, -1.0,
          0.0))],
        prompts=3, turns=3, answers=6, gold=(1, 1), beside=("dataset", "id", "title", "extract", "prefix"),
    ),
    "dpo-mix-7k": Case(
        HF + "argilla/dpo-mix-7k",
        [{"dataset": "x", "chosen": chat("q1", "a1", "q2", "good"), "rejected": chat("q1", "a1", "q2", "bad"),
          "chosen_rating": 5.0, "rejected_rating": 4.0}],
        prompts=1, turns=3, answers=2, gold=(1, 0), form="parquet", beside=("dataset",),
    ),
    "distilabel-intel-orca-dpo-pairs": Case(
        HF + "argilla/distilabel-intel-orca-dpo-pairs",
        [{"system": "", "input": "q", "chosen": "good", "rejected": "bad", "generations": ["good", "bad"],
          "order": ["chosen", "rejected"], "labelling_model": "m", "rating": [9.0, 1.0], "rationale": "since",
          "labelling_prompt": chat("judge this"), "status": "unchanged", "chosen_score": 9.0, "in_gsm8k_train": False}],
        prompts=1, turns=1, answers=2, gold=(1, 0),
        beside=("order", "labelling_model", "labelling_prompt", "rationale", "status"),
    ),
    "TRL preference, conversational": Case(
        "https://huggingface.co/docs/trl/dataset_formats",
        [{"prompt": chat("q"), "chosen": chat("good", roles=("assistant", "user")),
          "rejected": chat("bad", roles=("assistant", "user"))}],
        prompts=1, turns=1, answers=2, gold=(1, 0),
    ),
    "TRL preference, prompt not apart": Case(
        "https://huggingface.co/docs/trl/dataset_formats",
        [{"chosen": chat("q", "good"), "rejected": chat("q", "bad")}], prompts=1, turns=1, answers=2, gold=(1, 0),
    ),
    "OpenAI preference": Case(
        "https://platform.openai.com/docs/guides/direct-preference-optimization",
        [{"input": {"messages": chat("q"), "tools": [], "parallel_tool_calls": True},
          "preferred_output": chat("good", roles=("assistant", "user")),
          "non_preferred_output": chat("bad", roles=("assistant", "user"))}],
        prompts=1, turns=1, answers=2, gold=(1, 0), ignored=("input.parallel_tool_calls",),
    ),
}  # fmt: skip
