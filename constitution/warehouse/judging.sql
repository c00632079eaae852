-- Views and macros to look at the judges with, live from the votes: docs/warehouse.md, "Looking at the judges".
-- Style is counted here and nowhere else. Shares of preference count a tie as half; p within 1e-12 of one half is a tie,
-- as it is where labels are made (prefer.py).

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

-- Log-odds of a probability, no further from 0 than ln(1e6). side: 1 is b, -1 is a, 0 neither.
CREATE OR REPLACE MACRO log_odds(p) AS
    CASE WHEN p IS NOT NULL THEN ln(least(greatest(p / (1 - least(p, 1 - 1e-9)), 1e-6), 1e6)) END;
CREATE OR REPLACE MACRO side(p) AS CASE WHEN abs(p - 0.5) < 1e-12 THEN 0 WHEN p > 0.5 THEN 1 WHEN p < 0.5 THEN -1 END;
-- 1, 0 or, of a tie, a half: the mean of it is the share that prefers b.
CREATE OR REPLACE MACRO prefers_b(p) AS (side(p) + 1) / 2;

-- One row per answer: its style.
CREATE OR REPLACE VIEW style AS
SELECT
    run_id, id AS response_id, prompt_id, kind, round, model, count_tokens(text) AS tokens,
    count_headers(text) AS headers, count_lists(text) AS lists, count_bold(text) AS bold
FROM responses;

-- One row per pair: the differences in style, b minus a.
CREATE OR REPLACE VIEW style_differences AS
SELECT
    p.run_id, p.id AS pair_id, p.prompt_id, p.kind,
    length_difference(a.tokens, b.tokens) AS length,
    density_difference(a.headers, a.tokens, b.headers, b.tokens) AS headers,
    density_difference(a.lists, a.tokens, b.lists, b.tokens) AS lists,
    density_difference(a.bold, a.tokens, b.bold, b.tokens) AS bold
FROM preferences AS p
LEFT JOIN style AS a ON a.run_id = p.run_id AND a.response_id = p.a_id
LEFT JOIN style AS b ON b.run_id = p.run_id AND b.response_id = p.b_id;

-- One row per couple of votes: one judge, one principle, one pair, both orders (score and rubric have one, and p_ba,
-- position, same_place and first_place are null). Repeats are averaged first. Votes with less label mass than the recipe
-- asks for are missing, as they are for the label; votes of method rationale are not clamped here.
CREATE OR REPLACE VIEW couples AS
WITH mass AS (
    SELECT run_id, coalesce((recipe ->> '$.judge.min_label_mass')::DOUBLE, 0) AS least_mass FROM runs
),
orders AS (
    SELECT
        j.run_id, j.pair_id, j.judge, j.principle_id, any_value(j.prompt_id) AS prompt_id, any_value(p.kind) AS kind,
        any_value(j.method) AS method,
        avg(1 - j.p_first) FILTER (j.first_id = p.a_id) AS p_ab,
        avg(j.p_first) FILTER (j.first_id = p.b_id) AS p_ba
    FROM judgements AS j
    JOIN preferences AS p ON p.run_id = j.run_id AND p.id = j.pair_id
    LEFT JOIN mass AS m ON m.run_id = j.run_id
    WHERE j.label_mass >= coalesce(m.least_mass, 0)
    GROUP BY j.run_id, j.pair_id, j.judge, j.principle_id
),
complete AS (
    SELECT
        *, coalesce((p_ab + p_ba) / 2, p_ab) AS p_b,
        coalesce((log_odds(p_ab) + log_odds(p_ba)) / 2, log_odds(p_ab)) AS l_b,
        (log_odds(p_ba) - log_odds(p_ab)) / 2 AS position,
        CASE WHEN side(p_ab) <> 0 AND side(p_ba) <> 0 THEN side(p_ab) <> side(p_ba) END AS same_place
    FROM orders
    WHERE p_ab IS NOT NULL AND (p_ba IS NOT NULL OR method IN ('score', 'rubric'))
)
SELECT
    c.run_id, c.prompt_id, c.pair_id, c.kind, c.judge, c.principle_id, c.method, c.p_ab, c.p_ba, c.p_b, c.l_b,
    c.position, c.same_place, CASE WHEN c.same_place THEN side(c.p_ba) = 1 END AS first_place,
    s.length, s.headers, s.lists, s.bold
FROM complete AS c
LEFT JOIN style_differences AS s ON s.run_id = c.run_id AND s.pair_id = c.pair_id;

-- One row per pair, principle ('': the whole) and rater that has labelled it. A rater's word on the pair counts before what
-- follows from the same rater's words on its two responses; gold that came with the prompts is one more rater, `prompts`.
CREATE OR REPLACE VIEW rated AS
WITH word AS (
    SELECT * FROM labels QUALIFY row_number() OVER (PARTITION BY run_id, id ORDER BY created_at DESC) = 1
),
said AS (
    SELECT run_id, prompt_id, pair_id, coalesce(principle_id, '') AS principle_id, rater, value AS p_b, 0 AS place
    FROM word WHERE pair_id IS NOT NULL
    UNION ALL
    SELECT
        p.run_id, p.prompt_id, p.id, coalesce(a.principle_id, ''), a.rater,
        CASE WHEN b.value > a.value THEN 1 WHEN b.value < a.value THEN 0 ELSE 0.5 END, 1
    FROM preferences AS p
    JOIN word AS a ON a.run_id = p.run_id AND a.response_id = p.a_id
    JOIN word AS b ON b.run_id = p.run_id AND b.response_id = p.b_id AND b.rater = a.rater
        AND b.principle_id IS NOT DISTINCT FROM a.principle_id
    UNION ALL
    SELECT run_id, prompt_id, id, '', 'prompts', (gold_id = b_id)::INTEGER, 2 FROM preferences WHERE gold_id IS NOT NULL
)
SELECT run_id, any_value(prompt_id) AS prompt_id, pair_id, principle_id, rater, arg_min(p_b, place)::DOUBLE AS p_b
FROM said GROUP BY run_id, pair_id, principle_id, rater;

-- One row per pair and principle ('': the whole) that somebody has labelled: the mean over raters.
CREATE OR REPLACE VIEW gold AS
SELECT
    run_id, any_value(prompt_id) AS prompt_id, pair_id, principle_id, avg(p_b) AS p_b, count(*) AS raters
FROM rated GROUP BY run_id, pair_id, principle_id;
