-- The rest of the view `usage`, which begins with `WITH used AS (usage.sql),`: what the tokens of each stage and model cost
-- at the prices of the last start's recipe. Null: they have no price; hours of accelerators are of no stage.
priced AS (
    SELECT
        u.*,
        coalesce(
            CASE WHEN u.stage LIKE 'sample-%'
                 THEN CAST(r.recipe -> '$.sample' AS MAP(VARCHAR, JSON))[substr(u.stage, 8)] ->> '$.model'
                 WHEN u.stage = 'reference' THEN r.recipe ->> '$.reference.model'
                 WHEN u.stage = 'rubric' THEN r.recipe ->> '$.rubric.model' END, 'policy'
        ) AS asked,
        CASE WHEN asked NOT IN ('policy', 'judge')
             THEN CAST(r.recipe -> '$.model.pool' AS MAP(VARCHAR, JSON))[asked]
             WHEN asked = 'policy' AND u.stage NOT IN ('vote', 'rubric-check')
                  AND (u.stage = 'reward-last-token' OR u.stage NOT LIKE 'reward-%') THEN r.recipe -> '$.model.policy'
             WHEN len(json_keys(r.recipe -> '$.model.jury')) > 0
             THEN CAST(r.recipe -> '$.model.jury' AS MAP(VARCHAR, JSON))[u.model]
             WHEN json_type(r.recipe, '$.model.judge') = 'OBJECT' THEN r.recipe -> '$.model.judge'
             ELSE r.recipe -> '$.model.policy' END AS model_section,
        model_section -> '$.price' AS price,
        -- What is asked in batches costs half (recipe/models.py).
        CASE WHEN model_section ->> '$.batch' = 'true' THEN 0.5 ELSE 1.0 END AS part,
        coalesce((price ->> '$.input')::DOUBLE, 0) AS input, coalesce((price ->> '$.output')::DOUBLE, 0) AS output,
        coalesce((price ->> '$.cached')::DOUBLE, input) AS cached,
        least(u.cached_tokens, u.prompt_tokens) AS found
    FROM used AS u LEFT JOIN runs AS r USING (run_id)
)
SELECT
    run_id, stage, model, calls, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
    CASE WHEN input > 0 OR cached > 0 OR output > 0
         THEN part * ((prompt_tokens - found) * input + found * cached + completion_tokens * output) / 1e6 END AS cost
FROM priced
