-- What of a document a run covers, live: docs/warehouse.md, "Which clause a row is of".

-- One row per principle and clause that it names.
CREATE OR REPLACE VIEW principle_clauses AS
SELECT run_id, principle_id, unnest(clauses) AS clause FROM principles WHERE len(clauses) > 0;

-- Every answer, vote, reading and preference, once for each clause that it traces to; clause is null where its
-- principle names none, or none asked for it. A preference traces by the votes on it, by the principles drawn for its
-- answers and for those between them, and by the readings of its answers.
CREATE OR REPLACE VIEW clause_rows AS
WITH read AS (
    SELECT run_id, id, prompt_id, response_id, CASE WHEN scorecard = '' THEN nullif(principle_id, '') END AS principle_id
    FROM scores
),
behind AS (
    SELECT run_id, pair_id AS id, principle_id, 'vote' AS via FROM judgements
    UNION
    SELECT p.run_id, p.id, r.principle_id, 'answer'
    FROM preferences AS p JOIN responses AS r ON r.run_id = p.run_id AND r.id IN (p.a_id, p.b_id)
    WHERE r.principle_id IS NOT NULL
    UNION
    SELECT p.run_id, p.id, r.principle_id, 'answer'
    FROM preferences AS p
    JOIN chain_answers AS a ON a.run_id = p.run_id AND a.id = p.a_id
    JOIN chain_answers AS b ON b.run_id = p.run_id AND b.id = p.b_id
    JOIN responses AS r
        ON r.run_id = p.run_id AND r.prompt_id = p.prompt_id AND r.kind = 'revision' AND r.round > a.step
        AND r.round <= b.step
    WHERE r.principle_id IS NOT NULL
    UNION
    SELECT p.run_id, p.id, s.principle_id, 'reading'
    FROM preferences AS p JOIN read AS s ON s.run_id = p.run_id AND s.response_id IN (p.a_id, p.b_id)
    WHERE s.principle_id IS NOT NULL
),
asked AS (
    SELECT run_id, 'responses' AS table_name, id, prompt_id, principle_id, CASE WHEN principle_id IS NOT NULL THEN 'answer' END AS via
    FROM responses
    UNION ALL
    SELECT run_id, 'judgements', id, prompt_id, principle_id, 'vote' FROM judgements
    UNION ALL
    SELECT run_id, 'scores', id, prompt_id, principle_id, CASE WHEN principle_id IS NOT NULL THEN 'reading' END FROM read
    UNION ALL
    SELECT p.run_id, 'preferences', p.id, p.prompt_id, b.principle_id, b.via
    FROM preferences AS p LEFT JOIN behind AS b ON b.run_id = p.run_id AND b.id = p.id
)
SELECT a.run_id, c.clause, a.table_name, a.id, a.prompt_id, a.principle_id, a.via
FROM asked AS a LEFT JOIN principle_clauses AS c ON c.run_id = a.run_id AND c.principle_id = a.principle_id;

-- One row per clause of each edition of a document that a run was held against. misquoted: its number is that of another
-- clause now, for its principles quote other words. agrees: share of the order-averaged
-- votes by its principles that prefer what the pair's label prefers, ties of either left out. win_rate: of the
-- revisions drawn for its principles, as the view `drawn` has it.
CREATE OR REPLACE VIEW coverage AS
WITH named AS (
    SELECT c.run_id, c.clause, list(c.principle_id ORDER BY p.position) AS principle_ids
    FROM principle_clauses AS c JOIN principles AS p ON p.run_id = c.run_id AND p.principle_id = c.principle_id
    GROUP BY ALL
),
counted AS (
    SELECT
        run_id, clause, count(DISTINCT prompt_id) AS prompts,
        count(DISTINCT id) FILTER (table_name = 'responses') AS answers,
        count(DISTINCT id) FILTER (table_name = 'judgements') AS votes,
        count(DISTINCT id) FILTER (table_name = 'scores') AS readings,
        count(DISTINCT id) FILTER (table_name = 'preferences') AS pairs
    FROM clause_rows WHERE clause IS NOT NULL GROUP BY ALL
),
revised AS (
    SELECT
        c.run_id, c.clause, sum(d.changed)::BIGINT AS changed, sum(d.judged)::BIGINT AS judged,
        sum(d.won) / nullif(sum(d.judged), 0) AS win_rate
    FROM principle_clauses AS c JOIN drawn AS d ON d.run_id = c.run_id AND d.principle_id = c.principle_id
    GROUP BY ALL
),
sided AS (
    SELECT c.run_id, c.clause, count(*) AS decided, avg((side(v.p_b) = side(p.p_b))::INTEGER) AS agrees
    FROM training_votes AS v
    JOIN training_pairs AS p ON p.run_id = v.run_id AND p.id = v.pair_id
    JOIN principle_clauses AS c ON c.run_id = v.run_id AND c.principle_id = v.principle_id
    WHERE side(v.p_b) <> 0 AND side(p.p_b) <> 0
    GROUP BY ALL
),
failed AS (
    SELECT r.run_id, r.clause, count(DISTINCT f.id) AS failures
    FROM (SELECT DISTINCT run_id, clause, prompt_id FROM clause_rows WHERE clause IS NOT NULL) AS r
    JOIN failures AS f ON f.run_id = r.run_id AND f.prompt_id = r.prompt_id
    GROUP BY ALL
)
SELECT
    c.run_id, c.document, c.edition, c.clause, c.position, c.number, c.heading, c.kind, c.lead, c.text,
    CASE WHEN n.clause IS NULL AND c.kind IN ('lead', 'heading') THEN 'introduces'
        WHEN n.clause IS NULL THEN 'no-principle'
        WHEN list_has_all(c.misquoted_by, n.principle_ids) THEN 'misquoted' WHEN t.clause IS NULL THEN 'not-asked' ELSE 'covered' END AS state,
    coalesce(n.principle_ids, []) AS principle_ids, c.quoted_by, c.misquoted_by,
    coalesce(t.prompts, 0) AS prompts, coalesce(t.answers, 0) AS answers, coalesce(r.changed, 0) AS changed,
    coalesce(t.pairs, 0) AS pairs, coalesce(t.votes, 0) AS votes, coalesce(t.readings, 0) AS readings,
    coalesce(s.decided, 0) AS decided, s.agrees, coalesce(r.judged, 0) AS judged, r.win_rate,
    coalesce(f.failures, 0) AS failures, c.page, c.line
FROM clauses AS c
LEFT JOIN named AS n ON n.run_id = c.run_id AND n.clause = c.clause
LEFT JOIN counted AS t ON t.run_id = c.run_id AND t.clause = c.clause
LEFT JOIN revised AS r ON r.run_id = c.run_id AND r.clause = c.clause
LEFT JOIN sided AS s ON s.run_id = c.run_id AND s.clause = c.clause
LEFT JOIN failed AS f ON f.run_id = c.run_id AND f.clause = c.clause;
