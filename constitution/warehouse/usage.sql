-- The view `usage`: calls and tokens of each run per stage and model, of the calls whose replies are in its rows. An
-- answer that came with its prompt (kind `given`) is no call, of a skipped revision only the critique is one, and a
-- vote is as many as it took, under the name of its judge; so is a reading for a reward, in the stage `reward-SOURCE`. A
-- sampler is the stage `sample-NAME`; the writing of prompts' rubrics is the stage `rubric`, and their check
-- `rubric-check`.
-- In its own file because a run that is opened asks the same of its own parts (Warehouse.tally).
SELECT
    run_id, stage, model, sum(calls)::BIGINT AS calls, sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(cached_tokens)::BIGINT AS cached_tokens, sum(completion_tokens)::BIGINT AS completion_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens
FROM (
    SELECT run_id, concat_ws('-', kind, sampler) AS stage, model, calls, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens
    FROM responses WHERE calls > 0
    UNION ALL
    SELECT
        run_id, 'critique' AS stage, model, 1 AS calls, critique_prompt_tokens, critique_cached_tokens,
        critique_completion_tokens, critique_reasoning_tokens
    FROM responses WHERE critique_outcome IS NOT NULL
    UNION ALL
    SELECT
        run_id, 'vote' AS stage, judge AS model, calls, prompt_tokens, cached_tokens, completion_tokens,
        reasoning_tokens
    FROM judgements
    UNION ALL
    SELECT
        run_id, 'rubric' AS stage, writer AS model, calls, prompt_tokens, cached_tokens, completion_tokens,
        reasoning_tokens
    FROM rubrics WHERE calls > 0
    UNION ALL
    SELECT
        run_id, 'rubric-check' AS stage, checker AS model, check_calls, check_prompt_tokens, check_cached_tokens,
        check_completion_tokens, 0
    FROM rubrics WHERE checker IS NOT NULL
    UNION ALL
    SELECT
        run_id, 'reward-' || metric AS stage, judge AS model, calls, prompt_tokens, cached_tokens, completion_tokens, 0
    FROM scores WHERE scorecard = '' AND calls > 0
)
GROUP BY run_id, stage, model
