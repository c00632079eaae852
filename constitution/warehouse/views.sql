-- Views and macros over the tables' Parquet files. The table views (prompts, responses, …) are made by views.py;
-- everything here is built on them and on the runs' JSON files. docs/warehouse.md explains each one.

-- Whether a revision has another text than what it was made from: not what a server said or left in place of one.
CREATE OR REPLACE MACRO changed(outcome, txt) AS outcome IN ('ok', 'cut') AND txt <> '';

-- Log-odds of a probability, no further from 0 than ln(1e6). side: 1 is b, -1 is a, 0 neither; p within 1e-12 of one
-- half is neither.
CREATE OR REPLACE MACRO log_odds(p) AS
    CASE WHEN p IS NOT NULL THEN ln(least(greatest(p / (1 - least(p, 1 - 1e-9)), 1e-6), 1e6)) END;
CREATE OR REPLACE MACRO side(p) AS CASE WHEN abs(p - 0.5) < 1e-12 THEN 0 WHEN p > 0.5 THEN 1 WHEN p < 0.5 THEN -1 END;
-- 1, 0 or, of a tie, a half: the mean of it is the share that prefers b.
CREATE OR REPLACE MACRO prefers_b(p) AS (side(p) + 1) / 2;

-- A reward with its length penalty: what answers are ranked by, as `Reward.total`. Rounded, so that sums that are the
-- same number are the same reward.
CREATE OR REPLACE MACRO total_reward(value, penalty) AS round(value + coalesce(penalty, 0), 12);

-- Every pair with its label, but for perturbations: answers that were made worse on purpose, for the judges to see.
-- reward_gap: the chosen answer's reward less the rejected one's.
CREATE OR REPLACE VIEW training_pairs AS
SELECT *, CASE WHEN chosen_id = b_id THEN reward_b - reward_a ELSE reward_a - reward_b END AS reward_gap
FROM preferences WHERE kind <> 'perturbation';

-- One row per run: what was run, with what, and how it went, as its record has it: of a run at work at most ten seconds
-- old, null where nothing was recorded yet. lost: prompts that failed for good; open: those to be tried again.
CREATE OR REPLACE VIEW runs AS
WITH files AS (
    SELECT
        coalesce(json, error(file || ': cannot be read as a run (`constitution verify --repair` quarantines it)')) AS run
    FROM glob(coalesce(getvariable('root') || '/', '') || 'runs/[!.]*.json')
    -- Not read_text: it takes the folders above the warehouse for columns, and knows no setting against it.
    LEFT JOIN read_json_objects(
        coalesce(getvariable('root') || '/', '') || 'runs/[!.]*.json',
        format = 'unstructured', hive_partitioning = false, filename = 'path'
    ) ON path = file
    WHERE regexp_matches(file, '/[A-Za-z0-9][A-Za-z0-9._-]*[.]json$')  -- neither _none.json nor a copy's name
)
SELECT
    run ->> '$.run_id' AS run_id,
    run ->> '$.recipe.name' AS recipe_name,
    run ->> '$.constitution' AS constitution,
    CASE WHEN run ->> '$.finished_at' IS NULL THEN 'open' ELSE 'finished' END AS status,
    (run ->> '$.started_at')::TIMESTAMPTZ AS started_at,
    (run ->> '$.finished_at')::TIMESTAMPTZ AS finished_at,
    (nullif(run ->> '$.template_date', ''))::DATE AS template_date,
    (run ->> '$.seconds')::DOUBLE AS seconds,
    (run ->> '$.starts')::INTEGER AS starts,
    (run ->> '$.cost')::DOUBLE AS cost,
    coalesce(run ->> '$.recipe.budget.currency', 'USD') AS currency,
    (run ->> '$.counts.prompts')::BIGINT AS prompts,
    (run ->> '$.counts.done')::BIGINT AS done,
    (run ->> '$.counts.open')::BIGINT AS open,
    (run ->> '$.counts.lost')::BIGINT AS lost,
    (run ->> '$.counts.responses')::BIGINT AS responses,
    (run ->> '$.counts.judgements')::BIGINT AS judgements,
    (run ->> '$.counts.votes_missing')::BIGINT AS votes_missing,
    (run ->> '$.counts.votes_spared')::BIGINT AS votes_spared,
    (run ->> '$.counts.rewards')::BIGINT AS rewards,
    (run ->> '$.counts.preferences')::BIGINT AS preferences,
    (run ->> '$.counts.kept')::BIGINT AS kept,
    (run ->> '$.counts.failures')::BIGINT AS failures,
    list_sum((run -> '$.usage[*].calls')::BIGINT[])::BIGINT AS calls,
    (run ->> '$.counts.prompt_tokens')::BIGINT AS prompt_tokens,
    (run ->> '$.counts.cached_tokens')::BIGINT AS cached_tokens,
    (run ->> '$.counts.completion_tokens')::BIGINT AS completion_tokens,
    (run ->> '$.counts.reasoning_tokens')::BIGINT AS reasoning_tokens,
    coalesce(run ->> '$.stopped', '') AS stopped,
    run -> '$.counts' AS counts,
    run -> '$.usage' AS usage,
    run -> '$.engines' AS engines,
    run -> '$.models' AS models,
    run -> '$.recipe' AS recipe,
    run ->> '$.constitution_digest' AS constitution_digest,
    run -> '$.templates' AS templates,
    coalesce((run -> '$.authors')::VARCHAR[], []) AS authors,
    run ->> '$.code_version' AS code_version,
    coalesce((run ->> '$.shards')::INTEGER, 0) AS shards,
    coalesce(run ->> '$.parent', '') AS parent,
    coalesce((run ->> '$.iteration')::INTEGER, 0) AS iteration,
    run -> '$.hardware' AS hardware,
    run -> '$.labels' AS labels
FROM files;

-- The prompt templates that the runs used, one row per file: what a row's template_digest leads to.
CREATE OR REPLACE VIEW templates AS
SELECT runs.run_id, sets.key AS digest, texts.key AS file, texts.value ->> '$' AS text
FROM runs, json_each(runs.templates) AS sets, json_each(sets.value) AS texts;

-- One row per answer: which answer its text was written in, and what became of it there. An unchanged or skipped one has
-- its parent's text, and is as whole as that.
CREATE OR REPLACE VIEW written AS
WITH RECURSIVE walk AS (
    SELECT run_id, id, parent_id AS written_id FROM responses WHERE repeats(outcome)
    UNION
    SELECT w.run_id, w.id, r.parent_id
    FROM walk AS w JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.written_id AND repeats(r.outcome)
)
SELECT run_id, id, id AS written_id, became(outcome, copied_from) AS text_outcome
FROM responses WHERE NOT repeats(outcome)
UNION ALL
SELECT w.run_id, w.id, r.id, became(r.outcome, r.copied_from)
FROM walk AS w JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.written_id AND NOT repeats(r.outcome);

-- Every answer but for perturbations and references, with the answer that its text was written in and what became of it there.
CREATE OR REPLACE VIEW answers AS
SELECT r.*, w.written_id, w.text_outcome
FROM responses AS r JOIN written AS w ON w.run_id = r.run_id AND w.id = r.id
WHERE r.kind NOT IN ('perturbation', 'reference');

-- One row per answer of a chain. step: 0 is what it started from, an initial answer or a sample; r is the revision of
-- round r.
CREATE OR REPLACE VIEW chain_answers AS
SELECT run_id, prompt_id, id, kind, round AS step FROM responses WHERE kind IN ('initial', 'revision')
UNION ALL
SELECT s.run_id, s.prompt_id, s.id, s.kind, 0
FROM responses AS s SEMI JOIN (SELECT run_id, parent_id FROM responses WHERE kind = 'revision') AS r
    ON r.run_id = s.run_id AND r.parent_id = s.id
WHERE s.kind = 'sample';

-- Every vote with what it was about: the question and both answers. p_b is the vote for the pair's later answer; while
-- votes on the pair may still come, it has no preference to say which answer that is, and p_b is null.
CREATE OR REPLACE VIEW votes AS
SELECT
    j.run_id, j.prompt_id, j.pair_id, p.kind AS pair_kind, j.id AS judgement_id, j.judge, j.principle_id, j.method,
    j.first_id = p.a_id AS a_first,
    j.p_first,
    CASE j.first_id WHEN p.b_id THEN j.p_first WHEN p.a_id THEN 1 - j.p_first END AS p_b,
    j.label_mass, c.weight, c.comparison_question,
    f.text AS first_text, s.text AS second_text,
    j.principle_digest, j.template_digest, j.rationale, j.seed, j.repeat, j.wave, j.calls, j.read_first, j.read_second
FROM judgements AS j
LEFT JOIN preferences AS p ON p.run_id = j.run_id AND p.id = j.pair_id
LEFT JOIN principles AS c ON c.run_id = j.run_id AND c.principle_id = j.principle_id
LEFT JOIN responses AS f ON f.run_id = j.run_id AND f.id = j.first_id
LEFT JOIN responses AS s ON s.run_id = j.run_id AND s.id = j.second_id;

-- Every preference, with all its columns, and its texts: what an export or a reader wants to see. Answers that were spoiled on purpose are no
-- preferences; they are in `perturbations`. Of a tie and of a pair without votes, chosen is the later answer for want of
-- another;
-- it agrees with no rater's gold.
CREATE OR REPLACE VIEW pairs AS
SELECT
    p.run_id, p.id, p.prompt_id, p.kind, q.messages AS prompt, q.last_user,
    c.text AS chosen, r.text AS rejected, p.p_chosen, p.p_b, p.kept, p.drop_reason,
    p.votes, p.votes_missing, p.votes_spared, p.consistency, p.agreement, p.label_mass,
    p.a_id, p.b_id, p.chosen_id, p.rejected_id, c.round AS chosen_round, r.round AS rejected_round,
    c.model AS chosen_model, r.model AS rejected_model, c.family AS chosen_family, r.family AS rejected_family,
    p.gold_id, CASE WHEN side(p.p_b) <> 0 THEN p.gold_id = p.chosen_id END AS agrees_with_gold,
    p.p_mean, p.p_low, p.p_high, p.label_by, p.ties, p.dissent, p.reward_a, p.reward_b, p.reward_gap,
    q.source, q.tags, p.created_at
FROM training_pairs AS p
LEFT JOIN prompts AS q ON q.run_id = p.run_id AND q.id = p.prompt_id
LEFT JOIN responses AS c ON c.run_id = p.run_id AND c.id = p.chosen_id
LEFT JOIN responses AS r ON r.run_id = p.run_id AND r.id = p.rejected_id;

-- Every answer that was spoiled on purpose, as it was and as it became: p_answer is what the votes give the answer.
CREATE OR REPLACE VIEW perturbations AS
SELECT
    p.run_id, p.id, p.prompt_id, v.perturbation, q.messages AS prompt, q.last_user, a.text AS answer, v.text AS perturbed,
    1 - p.p_b AS p_answer, p.votes, p.votes_missing, p.consistency, p.agreement, p.dissent, p.label_mass, v.outcome,
    p.a_id AS answer_id, p.b_id AS perturbed_id, a.kind AS answer_kind, a.round, v.model, v.family, q.source, q.tags
FROM preferences AS p
LEFT JOIN prompts AS q ON q.run_id = p.run_id AND q.id = p.prompt_id
LEFT JOIN responses AS a ON a.run_id = p.run_id AND a.id = p.a_id
LEFT JOIN responses AS v ON v.run_id = p.run_id AND v.id = p.b_id
WHERE p.kind = 'perturbation';

-- One row per prompt: how far its chain is. complete: every round that the recipe asks for is there (or the initial
-- answer has no text, and so no revisions; or max_tokens were used up before any text), and a preference of every kind
-- of pair that can then be, and a reward of every answer by every source that the recipe has, and its reference is
-- checked or cannot be had. stopped: an engine failed it for good in a later round, or there is no sample to revise, and
-- what it has is paired. failed: an engine failed it for good. open: the rest. stopped_at, stopped_by: of stopped and
-- failed, the step and the error. Spoiled answers and references, and what else is said of them, do not count.
CREATE OR REPLACE VIEW chains AS
WITH wanted AS (
    SELECT
        run_id,
        coalesce((recipe ->> '$.revise.rounds')::INTEGER, 0) AS rounds,
        coalesce((recipe -> '$.judge.pairs')::VARCHAR[], []) AS pairs,
        coalesce((recipe -> '$.judge.contrast')::VARCHAR[], []) AS contrast,
        -- That end with their samples' rewards by votes, once each of their pairs has its label.
        CASE WHEN recipe ->> '$.judge.confirm' IN ('reward', 'construction') THEN [] ELSE ['all', 'tournament'] END
            AS standing,
        coalesce(list_sum((recipe -> '$.sample.*.n')::BIGINT[]), 0)::BIGINT AS samples,
        coalesce(json_type(recipe, '$.reference') = 'OBJECT', false) AS referred,
        -- Given answers are judged or rewarded, and none are made.
        coalesce((recipe -> '$.reward.by')::VARCHAR[], []) AS sources,
        rounds = 0 AND (recipe ->> '$.perturb') IS NULL AND samples = 0 AND (
            pairs = ['given']
            OR ((recipe ->> '$.judge') IS NULL AND len(sources) > 0 AND json_array_length(recipe, '$.prompts.answers') > 0)
        ) AS only_judges,
        -- Beside samplers only where it has rounds.
        (rounds > 0 OR samples = 0) AND NOT only_judges AS chain
    FROM runs
),
answered AS (
    SELECT
        run_id, prompt_id, count(*) AS responses,
        max(round) FILTER (kind IN ('initial', 'revision')) AS rounds, count(*) FILTER (kind = 'sample') AS samples,
        count(DISTINCT text) FILTER (kind = 'sample' AND text <> '') AS texts,
        coalesce(bool_or(kind = 'initial' AND text = ''), false) AS empty,
        empty OR coalesce(bool_or(kind = 'revision' AND text = '' AND outcome = 'cut'), false) AS ended
    FROM responses WHERE kind NOT IN ('perturbation', 'reference')
    GROUP BY ALL
),
-- Answers of two contrasted samplers that have the same number.
contrasted AS (
    SELECT run_id, prompt_id, count(*) FILTER (sides = 2) AS contrasts
    FROM (
        SELECT r.run_id, r.prompt_id, r.round, count(*) AS sides
        FROM responses AS r JOIN wanted AS w ON w.run_id = r.run_id AND list_contains(w.contrast, r.sampler)
        GROUP BY ALL
    )
    GROUP BY ALL
),
paired AS (
    SELECT
        run_id, prompt_id, count(*) AS pairs, count(*) FILTER (kept) AS kept, list(DISTINCT kind) AS kinds,
        count(*) FILTER (kind = 'contrast') AS contrasts
    FROM training_pairs
    GROUP BY ALL
),
rewarded AS (
    SELECT run_id, prompt_id, count(*) FILTER (source <> 'votes') AS rewards,
        count(*) FILTER (source = 'votes') AS standings
    FROM rewards GROUP BY ALL
),
spread AS (
    SELECT
        w.run_id, w.prompt_id, count(DISTINCT r.text) AS texts, max(total_reward(w.value, w.length_penalty)) AS best,
        min(total_reward(w.value, w.length_penalty)) AS worst
    FROM rewards AS w
    JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.response_id AND r.kind = 'sample'
    JOIN wanted ON wanted.run_id = w.run_id AND wanted.sources[1] = w.source
    WHERE w.value IS NOT NULL GROUP BY ALL
),
broken AS (
    -- What a model did not say, a vote or reading that cannot be had, a perturbation and a reference stop no chain.
    SELECT
        run_id, prompt_id, count(*) AS failures,
        arg_max({'step': step, 'why': error || ': ' || message}, created_at) FILTER (
            NOT retryable AND step <> 'vote' AND NOT regexp_matches(step, '^(reward|rubric|reference|perturbation)(-|$)')
            AND (NOT unsaid(error) OR error IN ('NothingToSee', 'NothingToRevise'))
        ) AS final,
        -- A sample that failed ends no chain that starts from another.
        coalesce(bool_or(step NOT LIKE 'sample-%') FILTER (
            NOT retryable AND step <> 'vote' AND NOT regexp_matches(step, '^(reward|rubric|reference|perturbation)(-|$)')
            AND (NOT unsaid(error) OR error = 'NothingToRevise')
        ), false) AS chain_broken,
        coalesce(bool_or(step = 'reference' AND NOT retryable), false) AS no_reference
    FROM failures
    GROUP BY ALL
),
joined AS (
    SELECT
        q.run_id, q.id AS prompt_id, a.rounds, w.rounds AS rounds_wanted, coalesce(a.samples, 0) AS samples,
        coalesce(a.responses, 0) AS responses, coalesce(p.pairs, 0) AS pairs, coalesce(p.kept, 0) AS kept,
        coalesce(b.failures, 0) AS failures, b.final, coalesce(e.rewards, 0) AS rewards,
        coalesce(e.rewards, 0) >= coalesce(a.responses, 0) * len(w.sources)
            AND (NOT w.referred OR c.prompt_id IS NOT NULL OR coalesce(b.no_reference, false)) AS rewarded,
        (NOT w.chain OR coalesce(a.rounds >= w.rounds OR a.ended, false)) AS chained,
        chained OR coalesce(b.chain_broken, false) AS chain_over,
        chained AND coalesce(a.samples, 0) >= w.samples
            AND (NOT w.only_judges OR coalesce(a.responses, 0) >= len(q.answers)) AS answered,
        -- Of a chain that an engine stopped for good, there are pairs of the answers that it has.
        CASE WHEN b.final IS NULL OR answered THEN w.rounds ELSE coalesce(a.rounds, 0) END AS paired_rounds,
        -- A chain of one round has one pair, whichever of the two names it goes by.
        list_filter(w.pairs, lambda kind:
            (NOT list_contains(coalesce(p.kinds, []), kind) OR list_contains(w.standing, kind)
                OR kind = 'contrast' AND p.contrasts < d.contrasts)
            AND NOT (kind = 'contrast' AND coalesce(d.contrasts, 0) = 0)
            AND NOT (kind = 'given' AND len(q.answers) < 2)
            AND NOT (kind IN ('first-last', 'parent') AND paired_rounds = 0)
            AND NOT (kind = 'parent' AND coalesce(a.empty, false))
            -- Samples that no reward tells apart, or that have one text, have no pair; one pair may be of several kinds.
            AND NOT (kind IN ('best-worst', 'best-low') AND coalesce(s.best <= s.worst, true))
            AND NOT (kind = 'best-random' AND coalesce(s.texts, 0) < 2)
            AND NOT (kind = 'all' AND coalesce(a.texts, 0) < 2)
            AND NOT (list_contains(w.standing, kind) AND coalesce(e.standings, 0) >= coalesce(a.samples, 0))
            AND NOT (kind IN ('best-worst', 'best-random', 'best-low', 'all') AND NOT list_contains(w.standing, kind)
                     AND list_has_any(
                         coalesce(p.kinds, []), ['contrast', 'best-worst', 'best-random', 'best-low', 'all']
                     ))
            AND NOT (coalesce(a.rounds, paired_rounds) = 1 AND kind IN ('first-last', 'parent')
                     AND list_has_any(coalesce(p.kinds, []), ['first-last', 'parent']))
        ) AS missing
    FROM prompts AS q
    LEFT JOIN wanted AS w USING (run_id)
    LEFT JOIN answered AS a ON a.run_id = q.run_id AND a.prompt_id = q.id
    LEFT JOIN paired AS p ON p.run_id = q.run_id AND p.prompt_id = q.id
    LEFT JOIN contrasted AS d ON d.run_id = q.run_id AND d.prompt_id = q.id
    LEFT JOIN spread AS s ON s.run_id = q.run_id AND s.prompt_id = q.id
    LEFT JOIN rewarded AS e ON e.run_id = q.run_id AND e.prompt_id = q.id
    LEFT JOIN broken AS b ON b.run_id = q.run_id AND b.prompt_id = q.id
    LEFT JOIN reference_checks AS c ON c.run_id = q.run_id AND c.prompt_id = q.id
)
SELECT
    run_id, prompt_id, rounds, rounds_wanted, samples, responses, rewards, pairs, kept, failures,
    missing AS pairs_missing,
    CASE
        WHEN answered AND rewarded AND len(missing) = 0 THEN 'complete'
        WHEN answered OR final IS NULL OR NOT chain_over OR NOT rewarded THEN 'open'
        WHEN (rounds > 0 OR samples > 0) AND len(missing) = 0 THEN 'stopped'
        ELSE 'failed'
    END AS state,
    state = 'complete' AS complete,
    CASE WHEN state IN ('stopped', 'failed') THEN final.step END AS stopped_at,
    CASE WHEN state IN ('stopped', 'failed') THEN final.why END AS stopped_by
FROM joined;

-- Everything behind one preference row: FROM provenance('<preferences.id>').
-- part: pair, prompt, response (the pair's two answers and all their parents), reward (of the two), vote. Texts are the
-- exact ones.
CREATE OR REPLACE MACRO provenance(preference_id) AS TABLE
WITH RECURSIVE pair AS (
    SELECT * FROM preferences WHERE id = preference_id
),
chain AS (
    SELECT r.* FROM responses AS r, pair WHERE r.run_id = pair.run_id AND r.id IN (pair.a_id, pair.b_id)
    UNION
    SELECT r.* FROM responses AS r, chain AS c WHERE r.run_id = c.run_id AND r.id = c.parent_id
),
rules AS (
    SELECT
        run_id, principle_id, digest,
        {'critique_request': critique_request, 'revision_request': revision_request,
         'comparison_question': comparison_question, 'weight': weight, 'criteria': criteria, 'quote': quote,
         'clauses': clauses} AS principle,
        CASE WHEN len(exemplars) > 0 THEN exemplars ELSE shared_exemplars END AS exemplars
    FROM principles WHERE run_id IN (SELECT run_id FROM pair)
),
sets AS (
    SELECT run_id, digest, map(list(file ORDER BY file), list(text ORDER BY file)) AS templates
    FROM templates GROUP BY ALL
),
steps AS (
    SELECT
        0 AS place, 'pair' AS part, run_id, id,
        concat(kind, CASE WHEN label_by IN ('reward', 'construction') THEN ' · by ' || label_by END) AS what, NULL::INTEGER AS round, NULL AS role, NULL AS model,
        NULL::BIGINT AS critique_seed, NULL::BIGINT AS seed, NULL::JSON AS sampling, NULL AS principle_id,
        NULL AS principle_digest, NULL AS template_digest, NULL AS critique, coalesce(drop_reason, 'kept') AS text,
        p_b AS p, label_mass
    FROM pair
    UNION ALL BY NAME
    SELECT 1 AS place, 'prompt' AS part, q.run_id, q.id, q.source AS what, to_json(q.messages)::VARCHAR AS text
    FROM prompts AS q, pair WHERE q.run_id = pair.run_id AND q.id = pair.prompt_id
    UNION ALL BY NAME
    SELECT
        2 AS place, 'response' AS part, run_id, id, concat(kind, ' ' || perturbation, ' · ', outcome) AS what, round, 'policy' AS role, model,
        critique_seed, seed, to_json(sampling) AS sampling, principle_id, principle_digest, template_digest, critique,
        text, sampler
    FROM chain
    UNION ALL BY NAME
    SELECT
        3 AS place, 'reward' AS part, w.run_id, w.id,
        concat(CASE WHEN w.response_id = pair.a_id THEN 'a' ELSE 'b' END, ' · ', w.source, ' · ' || w.reason) AS what,
        array_to_string(w.judges, ', ') AS model, total_reward(w.value, w.length_penalty) AS reward
    FROM rewards AS w, pair WHERE w.run_id = pair.run_id AND w.response_id IN (pair.a_id, pair.b_id)
    UNION ALL BY NAME
    SELECT
        4 AS place, 'vote' AS part, j.run_id, j.id,
        concat(
            CASE WHEN j.first_id = pair.a_id THEN 'a first' ELSE 'b first' END, ' · ', j.method,
            CASE WHEN j.repeat > 0 THEN ' · repeat ' || j.repeat END
        ) AS what,
        'judge' AS role, j.judge AS model, j.seed, j.principle_id, j.principle_digest, j.template_digest,
        j.rationale AS text, CASE WHEN j.first_id = pair.b_id THEN j.p_first ELSE 1 - j.p_first END AS p, j.label_mass
    FROM judgements AS j, pair WHERE j.run_id = pair.run_id AND j.pair_id = pair.id
)
SELECT
    s.part, s.id, s.what, s.round, s.model,
    CASE s.role
        WHEN 'policy' THEN coalesce(
            CAST(runs.models AS MAP(VARCHAR, JSON))[
                'pool ' || (CAST(runs.recipe -> '$.sample' AS MAP(VARCHAR, JSON))[s.sampler] ->> '$.model')
            ],
            runs.models -> '$.policy'
        )
        -- A member of a jury by its name; a judge alone; in a run from before there was such an entry, the policy.
        WHEN 'judge' THEN coalesce(
            CAST(runs.models AS MAP(VARCHAR, JSON))['judge ' || s.model], runs.models -> '$.judge', runs.models -> '$.policy'
        )
    END AS model_identity,
    s.critique_seed, s.seed, s.sampling, s.principle_id, rules.principle, s.principle_digest,
    CASE s.role WHEN 'policy' THEN rules.exemplars END AS exemplars,
    s.template_digest, sets.templates, s.critique, s.text, s.p AS p_b, s.label_mass, s.reward, s.run_id, runs.recipe,
    runs.code_version
FROM steps AS s
LEFT JOIN rules ON rules.run_id = s.run_id AND rules.principle_id = s.principle_id AND rules.digest = s.principle_digest
LEFT JOIN sets ON sets.run_id = s.run_id AND sets.digest = s.template_digest
LEFT JOIN runs ON runs.run_id = s.run_id
ORDER BY s.place, s.round, s.principle_id, s.what, s.id;

-- The figures of one run that compare_versions puts side by side.
CREATE OR REPLACE MACRO run_figures(run) AS TABLE
WITH pair AS (
    SELECT
        count(*)::DOUBLE AS pairs,
        avg(kept::INTEGER) AS kept_share,
        avg(p_b) AS mean_p_b,
        avg(p_chosen) AS mean_p_chosen,
        avg(prefers_b(p_b)) AS later_preferred_share,
        avg(consistency) AS position_consistency,
        avg(agreement) AS agreement,
        avg(label_mass) AS label_mass
    FROM training_pairs WHERE run_id = run
),
revision AS (
    SELECT
        count(*)::DOUBLE AS revisions,
        avg(changed(outcome, text)::INTEGER) AS revision_changed_share,
        avg((critique_outcome = 'refused')::INTEGER) AS critique_refused_share,
        avg(length(text)) AS revision_characters
    FROM responses WHERE run_id = run AND kind = 'revision'
),
failure AS (SELECT count(*)::DOUBLE AS failures FROM failures WHERE run_id = run),
wide AS (SELECT * FROM pair, revision, failure)
SELECT figure, value FROM wide UNPIVOT INCLUDE NULLS (value FOR figure IN (COLUMNS(*)));

-- How far two runs are about the same: prompts (their messages, and the copy) that are answered in both, or in one alone.
-- note: null where the prompts are the same.
CREATE OR REPLACE MACRO compare_prompts(run_a, run_b) AS TABLE
WITH answered AS (
    SELECT prompt_id, bool_or(run_id = run_a) AS in_a, bool_or(run_id = run_b) AS in_b
    FROM responses WHERE run_id IN (run_a, run_b) GROUP BY prompt_id
)
SELECT
    count(*) FILTER (in_a AND in_b) AS shared, count(*) FILTER (NOT in_b) AS only_a, count(*) FILTER (NOT in_a) AS only_b,
    CASE WHEN count(*) = 0 THEN 'neither run has answers'
         WHEN only_a + only_b > 0 THEN concat(
            'not the same prompts: ', shared, ' answered in both, ', only_a, ' only in a, ', only_b, ' only in b'
         ) END AS note
FROM answered;

-- Two runs side by side, figure by figure: FROM compare_versions('<run_id>', '<run_id>'). note: as compare_prompts has it.
CREATE OR REPLACE MACRO compare_versions(run_a, run_b) AS TABLE
SELECT a.figure, a.value AS a, b.value AS b, b.value - a.value AS difference, p.note
FROM run_figures(run_a) AS a JOIN run_figures(run_b) AS b USING (figure), compare_prompts(run_a, run_b) AS p;

-- The same, principle by principle: FROM compare_principles('<run_id>', '<run_id>').
CREATE OR REPLACE MACRO compare_principles(run_a, run_b) AS TABLE
WITH text AS (
    SELECT principle_id, any_value(digest) FILTER (run_id = run_a) AS a, any_value(digest) FILTER (run_id = run_b) AS b
    FROM principles WHERE run_id IN (run_a, run_b) GROUP BY ALL
),
vote AS (
    SELECT
        principle_id,
        count(*) FILTER (run_id = run_a) AS votes_a, count(*) FILTER (run_id = run_b) AS votes_b,
        avg(p_b) FILTER (run_id = run_a) AS p_b_a, avg(p_b) FILTER (run_id = run_b) AS p_b_b
    FROM votes WHERE run_id IN (run_a, run_b) AND wave = 0 AND pair_kind IS DISTINCT FROM 'perturbation' GROUP BY ALL
),
revision AS (
    SELECT
        principle_id,
        count(*) FILTER (run_id = run_a) AS revisions_a, count(*) FILTER (run_id = run_b) AS revisions_b,
        avg(changed(outcome, text)::INTEGER) FILTER (run_id = run_a) AS changed_a,
        avg(changed(outcome, text)::INTEGER) FILTER (run_id = run_b) AS changed_b
    FROM responses WHERE run_id IN (run_a, run_b) AND kind = 'revision' GROUP BY ALL
)
SELECT
    principle_id,
    CASE WHEN text.a IS NULL THEN 'added' WHEN text.b IS NULL THEN 'removed'
         WHEN text.a = text.b THEN 'same' ELSE 'changed' END AS principle,
    coalesce(votes_a, 0) AS votes_a, coalesce(votes_b, 0) AS votes_b, p_b_a, p_b_b, p_b_b - p_b_a AS p_b_difference,
    coalesce(revisions_a, 0) AS revisions_a, coalesce(revisions_b, 0) AS revisions_b, changed_a, changed_b, p.note
FROM text LEFT JOIN vote USING (principle_id) LEFT JOIN revision USING (principle_id), compare_prompts(run_a, run_b) AS p
ORDER BY principle_id;
