-- Views and macros to look at the judges with, live from the votes (labels/votes.sql): docs/warehouse.md, "Looking at
-- the judges". Style is counted here and nowhere else.

-- Counts of one text. Tokens: words and single marks. The three of markdown leave fenced code out, an open fence too.
CREATE OR REPLACE MACRO count_tokens(txt) AS len(regexp_extract_all(txt, '[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]'));
CREATE OR REPLACE MACRO without_fences(txt) AS regexp_replace(txt, '(?s)```.*?(?:```|\z)', '', 'g');
CREATE OR REPLACE MACRO count_headers(txt) AS len(regexp_extract_all(without_fences(txt), '(?m)^#{1,6} '));
CREATE OR REPLACE MACRO count_lists(txt) AS
    len(regexp_extract_all(without_fences(txt), '(?m)^[ \t]*(?:[-*+]|\d+\.) '));
CREATE OR REPLACE MACRO count_bold(txt) AS
    len(regexp_extract_all(without_fences(txt), '\*\*[^*\n]+\*\*|__[^_\n]+__'));

-- Differences b minus a. length_difference is of tokens; density_difference of counts, each of so many tokens.
CREATE OR REPLACE MACRO length_difference(a, b) AS coalesce((b - a) / nullif(a + b, 0), 0)::DOUBLE;
CREATE OR REPLACE MACRO density_difference(count_a, tokens_a, count_b, tokens_b) AS
    (coalesce(count_b / nullif(tokens_b, 0), 0) - coalesce(count_a / nullif(tokens_a, 0), 0))
    / (coalesce(count_b / nullif(tokens_b, 0), 0) + coalesce(count_a / nullif(tokens_a, 0), 0) + 1)::DOUBLE;

-- One row per answer: its style.
CREATE OR REPLACE VIEW style AS
SELECT
    run_id, id AS response_id, prompt_id, kind, round, model, count_tokens(text) AS tokens,
    count_headers(text) AS headers, count_lists(text) AS lists, count_bold(text) AS bold
FROM responses;

-- One row per pair: the differences in style, b minus a. Its answers' texts are looked at once.
CREATE OR REPLACE VIEW style_differences AS
WITH shown AS (
    SELECT run_id, id AS pair_id, prompt_id, kind, a_id, b_id, unnest([a_id, b_id]) AS response_id FROM preferences
),
counted AS (
    SELECT
        w.run_id, w.pair_id, w.prompt_id, w.kind, w.response_id = w.a_id AS is_a, w.response_id = w.b_id AS is_b,
        count_tokens(r.text) AS tokens, count_headers(r.text) AS headers, count_lists(r.text) AS lists,
        count_bold(r.text) AS bold
    FROM shown AS w JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.response_id
),
sides AS (
    SELECT
        run_id, pair_id, any_value(prompt_id) AS prompt_id, any_value(kind) AS kind,
        max(tokens) FILTER (is_a) AS tokens_a, max(tokens) FILTER (is_b) AS tokens_b,
        max(headers) FILTER (is_a) AS headers_a, max(headers) FILTER (is_b) AS headers_b,
        max(lists) FILTER (is_a) AS lists_a, max(lists) FILTER (is_b) AS lists_b,
        max(bold) FILTER (is_a) AS bold_a, max(bold) FILTER (is_b) AS bold_b
    FROM counted GROUP BY run_id, pair_id
)
SELECT
    run_id, pair_id, prompt_id, kind,
    length_difference(tokens_a, tokens_b) AS length,
    density_difference(headers_a, tokens_a, headers_b, tokens_b) AS headers,
    density_difference(lists_a, tokens_a, lists_b, tokens_b) AS lists,
    density_difference(bold_a, tokens_a, bold_b, tokens_b) AS bold
FROM sides;

-- One row per rater of a run with groups: those that any of the rater's annotations names.
CREATE OR REPLACE VIEW raters AS
SELECT run_id, rater, list(DISTINCT rater_group ORDER BY rater_group) AS rater_groups
FROM (SELECT run_id, rater, unnest(rater_groups) AS rater_group FROM annotations) GROUP BY run_id, rater;

-- One row per pair, principle ('': the whole) and rater that has annotated it. A rater's word on the pair counts before
-- what follows from the same rater's words on its two responses; gold that came with the prompts is one more rater,
-- `prompts`.
CREATE OR REPLACE VIEW rated AS
WITH word AS (
    SELECT * FROM annotations QUALIFY row_number() OVER (PARTITION BY run_id, id ORDER BY created_at DESC) = 1
),
shown AS (
    SELECT run_id, id AS pair_id, prompt_id, a_id, b_id, unnest([a_id, b_id]) AS response_id FROM preferences
),
answered AS (
    SELECT
        p.run_id, p.pair_id, any_value(p.prompt_id) AS prompt_id, coalesce(w.principle_id, '') AS principle_id, w.rater,
        max(w.value) FILTER (w.response_id = p.a_id) AS a_value, max(w.value) FILTER (w.response_id = p.b_id) AS b_value
    FROM shown AS p JOIN word AS w ON w.run_id = p.run_id AND w.response_id = p.response_id
    GROUP BY p.run_id, p.pair_id, coalesce(w.principle_id, ''), w.rater
),
said AS (
    SELECT run_id, prompt_id, pair_id, coalesce(principle_id, '') AS principle_id, rater, value AS p_b, 0 AS place
    FROM word WHERE pair_id IS NOT NULL
    UNION ALL
    SELECT
        run_id, prompt_id, pair_id, principle_id, rater,
        CASE WHEN b_value > a_value THEN 1 WHEN b_value < a_value THEN 0 ELSE 0.5 END, 1
    FROM answered WHERE a_value IS NOT NULL AND b_value IS NOT NULL
    UNION ALL
    SELECT run_id, prompt_id, id, '', 'prompts', (gold_id = b_id)::INTEGER, 2 FROM preferences WHERE gold_id IS NOT NULL
)
SELECT
    s.run_id, any_value(s.prompt_id) AS prompt_id, s.pair_id, s.principle_id, s.rater,
    arg_min(s.p_b, s.place)::DOUBLE AS p_b, any_value(g.rater_groups) AS rater_groups
FROM said AS s LEFT JOIN raters AS g ON g.run_id = s.run_id AND g.rater = s.rater
GROUP BY s.run_id, s.pair_id, s.principle_id, s.rater;

-- One row per pair and principle ('': the whole) that a person has annotated: the mean over raters.
CREATE OR REPLACE VIEW gold AS
SELECT
    run_id, any_value(prompt_id) AS prompt_id, pair_id, principle_id, avg(p_b) AS p_b, count(*) AS raters
FROM rated GROUP BY run_id, pair_id, principle_id;

-- The same, one row per group of raters too: a rater counts in each of the rater's groups. Disagreement between groups
-- stays as p_b of each.
CREATE OR REPLACE VIEW group_gold AS
SELECT
    run_id, any_value(prompt_id) AS prompt_id, pair_id, principle_id, rater_group, avg(p_b) AS p_b, count(*) AS raters
FROM (SELECT * EXCLUDE (rater_groups), unnest(rater_groups) AS rater_group FROM rated)
GROUP BY run_id, pair_id, principle_id, rater_group;

-- One row per judge and principle: where the preferred answer stood. Of method label and rationale; ties are left out
-- of the shares. log_odds: what standing first is worth to an answer, in the mean.
CREATE OR REPLACE VIEW position AS
SELECT
    run_id, judge, principle_id, count(*) AS votes, count(same_place) AS decided,
    avg(same_place::INTEGER) AS same_place, avg(first_place::INTEGER) AS first_place, avg(position) AS log_odds
FROM first_votes WHERE p_ba IS NOT NULL
GROUP BY run_id, judge, principle_id;

-- One row per principle, over all judges and all pairs without a perturbation; votes are averaged over both orders.
-- win_rate: share that prefers b. entropy: mean, in bits. majority_agreement: share that prefers what most votes of the
-- other principles on the pair prefer; where either prefers neither, left out.
CREATE OR REPLACE VIEW principle_votes AS
WITH said AS (
    SELECT
        run_id, pair_id, principle_id, p_b, side(p_b) AS own,
        sum(side(p_b)) OVER (PARTITION BY run_id, pair_id)
            - sum(side(p_b)) OVER (PARTITION BY run_id, pair_id, principle_id) AS others
    FROM training_votes
)
SELECT
    run_id, principle_id, count(*) AS votes, avg(prefers_b(p_b)) AS win_rate,
    avg(-coalesce(p_b * log2(nullif(p_b, 0)), 0) - coalesce((1 - p_b) * log2(nullif(1 - p_b, 0)), 0)) AS entropy,
    avg((sign(others) = own)::INTEGER) FILTER (own <> 0 AND others <> 0) AS majority_agreement
FROM said
GROUP BY run_id, principle_id;

-- One row per two principles, both ways round: how their votes go together, on the same pair by the same judge. Ties
-- are left out. phi is 1 where one principle says nothing that the other does not; null where one is always for one
-- side.
CREATE OR REPLACE VIEW phi AS
WITH said AS (
    SELECT run_id, pair_id, judge, principle_id, side(p_b)::DOUBLE AS own
    FROM training_votes WHERE side(p_b) <> 0
)
SELECT
    x.run_id, x.principle_id, y.principle_id AS other_id, count(*) AS votes,
    CASE WHEN stddev_pop(x.own) > 0 AND stddev_pop(y.own) > 0 THEN corr(x.own, y.own) END AS phi
FROM said AS x JOIN said AS y
    ON y.run_id = x.run_id AND y.pair_id = x.pair_id AND y.judge = x.judge AND y.principle_id <> x.principle_id
GROUP BY x.run_id, x.principle_id, y.principle_id;

-- One row per judge and principle: share of its order-averaged votes that prefer what gold prefers. Gold of the principle, where
-- the run has any for it, else gold of the whole; its ties are left out, a vote's counts half. one_order: of the
-- single votes.
CREATE OR REPLACE VIEW alignment AS
WITH own AS (SELECT DISTINCT run_id, principle_id FROM gold WHERE principle_id <> ''),
meant AS (
    SELECT
        c.*, CASE WHEN o.principle_id IS NULL THEN '' ELSE c.principle_id END AS gold_principle,
        CASE WHEN o.principle_id IS NULL THEN 'whole' ELSE 'principle' END AS gold_of
    FROM training_votes AS c LEFT JOIN own AS o ON o.run_id = c.run_id AND o.principle_id = c.principle_id
)
SELECT
    m.run_id, m.judge, m.principle_id, m.gold_of, count(*) AS n,
    avg((1 + side(g.p_b) * (side(m.p_ab) + coalesce(side(m.p_ba), side(m.p_ab))) / 2) / 2) AS one_order,
    avg((1 + side(g.p_b) * side(m.p_b)) / 2) AS both_orders
FROM meant AS m
JOIN gold AS g ON g.run_id = m.run_id AND g.pair_id = m.pair_id AND g.principle_id = m.gold_principle
WHERE side(g.p_b) <> 0
GROUP BY m.run_id, m.judge, m.principle_id, m.gold_of;

-- One row per judge, principle and perturbation: share of the order-averaged votes that prefer
-- the original.
CREATE OR REPLACE VIEW perturbation_penalties AS
SELECT
    c.run_id, c.judge, c.principle_id, r.perturbation, count(*) AS n, avg(1 - prefers_b(c.p_b)) AS penalty
FROM first_votes AS c
JOIN preferences AS p ON p.run_id = c.run_id AND p.id = c.pair_id
JOIN responses AS r ON r.run_id = c.run_id AND r.id = p.b_id
WHERE c.kind = 'perturbation'
GROUP BY c.run_id, c.judge, c.principle_id, r.perturbation;

-- One row per judge of a run: how it votes, and how many votes it casts by one principle on one pair.
CREATE OR REPLACE VIEW run_judges AS
WITH named AS (
    SELECT run_id, recipe, j.key AS judge, j.value ->> '$.method' AS method
    FROM runs, json_each(recipe -> '$.model.jury') AS j
    UNION ALL
    SELECT run_id, recipe, coalesce(models ->> '$.judge.name', models ->> '$.policy.name'), NULL
    FROM runs WHERE coalesce(len(json_keys(recipe -> '$.model.jury')), 0) = 0
)
SELECT
    n.run_id, n.judge, m.method, m.orders * coalesce(CASE WHEN m.sampled THEN (n.recipe ->> '$.judge.verdict.n')::INTEGER
        ELSE (n.recipe ->> '$.judge.repeats')::INTEGER END, 1) AS votes
FROM named AS n JOIN methods AS m ON m.method = coalesce(n.method, n.recipe ->> '$.judge.method', 'label');

-- One row per judge of a run: votes that were asked for on labelled pairs, that it cast, that are missing, and that
-- were not needed. All judges are asked by the same principles of a pair. label_mass: the mean of the votes cast. failures: failed votes of
-- the judge on all the run's pairs, labelled or not, retried ones too.
CREATE OR REPLACE VIEW missing_votes AS
WITH asked AS (
    SELECT
        p.run_id, p.id AS pair_id, n.judge,
        (p.votes + p.votes_missing) * n.votes // sum(n.votes) OVER (PARTITION BY p.run_id, p.id) AS votes,
        p.votes_spared * n.votes // sum(n.votes) OVER (PARTITION BY p.run_id, p.id) AS spared
    FROM preferences AS p JOIN run_judges AS n ON n.run_id = p.run_id
    WHERE p.votes + p.votes_missing > 0
),
spoken AS (
    SELECT run_id, pair_id, judge, count(*) AS votes, sum(label_mass) AS mass FROM judgements GROUP BY ALL
),
failed AS (SELECT run_id, judge, count(*) AS failures FROM failures WHERE step = 'vote' GROUP BY ALL)
SELECT
    a.run_id, a.judge, count(*) AS pairs, sum(a.votes)::BIGINT AS asked, sum(coalesce(s.votes, 0))::BIGINT AS "cast",
    sum(a.votes - coalesce(s.votes, 0))::BIGINT AS missing, sum(a.spared)::BIGINT AS spared, any_value(coalesce(f.failures, 0)) AS failures,
    sum(s.mass) / sum(s.votes) AS label_mass
FROM asked AS a
LEFT JOIN spoken AS s ON s.run_id = a.run_id AND s.pair_id = a.pair_id AND s.judge = a.judge
LEFT JOIN failed AS f ON f.run_id = a.run_id AND f.judge = a.judge
GROUP BY a.run_id, a.judge;

-- One row per principle that revised: revisions drawn for it, those that changed the text, and how often the other
-- principles' votes together prefer what they led to (ties half). A revision is judged by the pair of its parent and itself
-- (against_parent counts these); where there is none, by the shortest pair of its chain that it lies between: of pairs
-- `first-last`, one verdict is that of every round that changed the text.
CREATE OR REPLACE VIEW drawn AS
WITH step AS (
    SELECT p.run_id, p.prompt_id, p.id AS pair_id, a.step AS a_round, b.step AS b_round
    FROM training_pairs AS p
    JOIN chain_answers AS a ON a.run_id = p.run_id AND a.id = p.a_id
    JOIN chain_answers AS b ON b.run_id = p.run_id AND b.id = p.b_id AND b.kind = 'revision'
),
judged AS (
    SELECT
        r.run_id, r.id, any_value(r.principle_id) AS principle_id, arg_min(s.pair_id, s.b_round - s.a_round) AS pair_id,
        arg_min(s.a_round = q.step AND s.b_round = r.round, s.b_round - s.a_round) AS against_parent
    FROM responses AS r
    JOIN chain_answers AS q ON q.run_id = r.run_id AND q.id = r.parent_id
    JOIN step AS s ON s.run_id = r.run_id AND s.prompt_id = r.prompt_id AND r.round > s.a_round AND r.round <= s.b_round
    WHERE r.kind = 'revision' AND changed(r.outcome, r.text)
    GROUP BY r.run_id, r.id
),
verdict AS (
    SELECT
        j.run_id, j.id, any_value(j.against_parent) AS against_parent,
        prefers_b(sum(coalesce(w.weight, 1) * c.p_b) / sum(coalesce(w.weight, 1))) AS won
    FROM judged AS j
    JOIN averaged_votes AS c
        ON c.run_id = j.run_id AND c.pair_id = j.pair_id AND c.principle_id IS DISTINCT FROM j.principle_id
    LEFT JOIN principles AS w ON w.run_id = c.run_id AND w.principle_id = c.principle_id
    GROUP BY j.run_id, j.id
)
SELECT
    r.run_id, r.principle_id, count(*) AS drawn,
    count(*) FILTER (changed(r.outcome, r.text)) AS changed,
    count(v.won) AS judged, count(v.won) FILTER (v.against_parent) AS against_parent, sum(v.won) AS won,
    avg(v.won) AS win_rate
FROM responses AS r LEFT JOIN verdict AS v ON v.run_id = r.run_id AND v.id = r.id
WHERE r.kind = 'revision' AND r.principle_id IS NOT NULL
GROUP BY r.run_id, r.principle_id;

-- One row per pair, for people to annotate and give to `constitution annotations import`: `preferred` is empty. Which
-- answer is first depends on the pair's id, so that no rater prefers the later one by preferring a place.
CREATE OR REPLACE VIEW annotation_sheet AS
WITH pair AS (
    SELECT run_id, id, prompt_id, kind, a_id, b_id, md5_number_upper(id) % 2 = 0 AS a_first FROM preferences
)
SELECT
    p.run_id, p.id AS pair_id, p.kind,
    array_to_string(list_transform(q.messages, lambda m: m.role || ': ' || m.content), e'\n\n') AS conversation,
    f.id AS first_id, f.text AS first, s.id AS second_id, s.text AS second, NULL::VARCHAR AS preferred
FROM pair AS p
JOIN prompts AS q ON q.run_id = p.run_id AND q.id = p.prompt_id
JOIN responses AS f ON f.run_id = p.run_id AND f.id = CASE WHEN p.a_first THEN p.a_id ELSE p.b_id END
JOIN responses AS s ON s.run_id = p.run_id AND s.id = CASE WHEN p.a_first THEN p.b_id ELSE p.a_id END
WHERE f.text <> s.text
    AND f.copied_from IS DISTINCT FROM 'system-prompt' AND s.copied_from IS DISTINCT FROM 'system-prompt';
