-- Votes as labels are made of them. The warehouse has these views, and the views that look at the judges rest on them.

-- One row per run: the settings of its recipe by which a vote counts.
CREATE OR REPLACE VIEW vote_settings AS
SELECT
    run_id, coalesce((recipe ->> '$.judge.min_label_mass')::DOUBLE, 0) AS least_mass,
    coalesce((recipe ->> '$.judge.clamp[0]')::DOUBLE, 0.4) AS clamp_low,
    coalesce((recipe ->> '$.judge.clamp[1]')::DOUBLE, 0.6) AS clamp_high
FROM runs;

-- One row per vote that counts: one with less label mass than the recipe asks for is missing. p_counted: what it counts
-- as, between low and high.
CREATE OR REPLACE VIEW counted_votes AS
SELECT
    j.run_id, j.prompt_id, j.pair_id, p.kind, j.judge, j.principle_id, j.method, m.orders, m.sampled,
    j.first_id = p.b_id AS b_first,
    CASE WHEN m.clamped THEN s.clamp_low ELSE 0 END AS low, CASE WHEN m.clamped THEN s.clamp_high ELSE 1 END AS high,
    j.p_first, least(greatest(j.p_first, low), high) AS p_counted, j.censored, j.wave
FROM judgements AS j
JOIN preferences AS p ON p.run_id = j.run_id AND p.id = j.pair_id
JOIN methods AS m ON m.method = j.method
LEFT JOIN vote_settings AS s ON s.run_id = j.run_id
WHERE j.label_mass >= coalesce(s.least_mass, 0);

-- The votes of one judge by one principle on one pair, averaged: repeats first, then both orders, which takes the
-- first-order position bias out. Votes without their other order are missing: alone they would carry it into the label.
-- Methods of one order have no p_ba, position, same_place or first_place. Where a vote is censored, position is null:
-- two votes at their bounds show no place, whatever it gave. counted: the name of a view like counted_votes.
-- Of written verdicts p_ab, p_ba are shares, with log-odds by share_odds; trials: how many verdicts p_b is the share of,
-- in effect (null: it was read), and p_low, p_high their 95 % interval (Wilson 1927).
CREATE OR REPLACE MACRO share_odds(p, n) AS ln((p * n + 0.5) / ((1 - p) * n + 0.5));  -- Anscombe 1956
CREATE OR REPLACE MACRO wilson(p, n, side) AS
    least(greatest((p + 1.920729 / n + side * 1.959964 * sqrt(p * (1 - p) / n + 0.960365 / n ** 2))
                   / (1 + 3.841459 / n), 0), 1);
CREATE OR REPLACE MACRO averaged(counted) AS TABLE
WITH ordered AS (
    SELECT
        run_id, pair_id, judge, principle_id, any_value(prompt_id) AS prompt_id, any_value(kind) AS kind,
        any_value(method) AS method, any_value(orders) AS orders, bool_or(sampled) AS drawn, count(*) AS votes,
        count(*) FILTER (NOT b_first) AS votes_ab, count(*) FILTER (b_first) AS votes_ba, bool_or(censored) AS censored,
        1 - favg(p_first) FILTER (NOT b_first) AS p_ab, favg(p_first) FILTER (b_first) AS p_ba,
        1 - favg(p_counted) FILTER (NOT b_first) AS counted_ab, favg(p_counted) FILTER (b_first) AS counted_ba,
        CASE WHEN drawn THEN share_odds(p_ab, votes_ab) ELSE log_odds(p_ab) END AS l_ab,
        CASE WHEN drawn THEN share_odds(p_ba, votes_ba) ELSE log_odds(p_ba) END AS l_ba
    FROM query_table(counted)
    GROUP BY run_id, pair_id, judge, principle_id
)
SELECT
    run_id, prompt_id, pair_id, kind, judge, principle_id, method, votes, p_ab, p_ba,
    coalesce((p_ab + p_ba) / 2, p_ab) AS p_b,
    coalesce((l_ab + l_ba) / 2, l_ab) AS l_b,
    CASE WHEN NOT censored THEN (l_ba - l_ab) / 2 END AS position,
    CASE WHEN side(p_ab) <> 0 AND side(p_ba) <> 0 THEN side(p_ab) <> side(p_ba) END AS same_place,
    CASE WHEN same_place THEN side(p_ba) = 1 END AS first_place,
    coalesce((counted_ab + counted_ba) / 2, counted_ab) AS p_counted,
    side(counted_ab) = side(counted_ba) AS consistent, l_ab, l_ba,
    CASE WHEN drawn THEN coalesce(4 / (1 / votes_ab + 1 / votes_ba), votes_ab) END AS trials,
    wilson(p_b, trials, -1) AS p_low, wilson(p_b, trials, 1) AS p_high
FROM ordered
WHERE (p_ab IS NOT NULL)::INTEGER + (p_ba IS NOT NULL)::INTEGER >= orders;

-- One row per order-averaged vote. p_b is as it was read, p_counted as the label counts it before any control.
CREATE OR REPLACE VIEW averaged_votes AS FROM averaged('counted_votes');

-- The same of votes that were asked for whatever others said: all of them, or of adaptive votes the first wave, a random
-- sample of each pair's. Later votes are of close pairs, so what is said of judges and principles is said of these.
CREATE OR REPLACE VIEW first_counted_votes AS FROM counted_votes WHERE wave = 0;
CREATE OR REPLACE VIEW first_votes AS FROM averaged('first_counted_votes');

-- The same without the votes on perturbations.
CREATE OR REPLACE VIEW training_votes AS FROM first_votes WHERE kind <> 'perturbation';

-- One row per reading of an answer by itself, by methods that do so: value in [0, 1]. Of grades it is the expected one
-- between the lowest and the highest, of criteria the share of the principle's checklist, by weight.
CREATE OR REPLACE VIEW readings AS
WITH read AS (
    SELECT run_id, prompt_id, unnest([first_id, second_id]) AS response_id, judge, principle_id, principle_digest,
        method, unnest([read_first, read_second]) AS reading, label_mass
    FROM judgements WHERE read_first IS NOT NULL
)
SELECT
    r.run_id, r.prompt_id, r.response_id, r.judge, r.principle_id, r.method,
    CASE m.reads
        WHEN 'grades' THEN
            list_sum(list_transform(r.reading, lambda p, i: p * (i - 1))) / list_sum(r.reading) / (len(r.reading) - 1)
        WHEN 'criteria' THEN
            list_sum(list_transform(r.reading, lambda p, i:
                c.criteria[i].weight * CASE c.criteria[i].good WHEN 'yes' THEN p ELSE 1 - p END))
            / list_sum(list_transform(c.criteria, lambda each: each.weight))
    END AS value
FROM read AS r
JOIN methods AS m ON m.method = r.method
LEFT JOIN principles AS c
    ON c.run_id = r.run_id AND c.principle_id = r.principle_id AND c.digest = r.principle_digest
LEFT JOIN vote_settings AS s ON s.run_id = r.run_id
WHERE r.label_mass >= coalesce(s.least_mass, 0);
