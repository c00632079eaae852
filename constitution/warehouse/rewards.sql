-- Views of rewards. A group is the samples of a prompt by one source; of a prompt without samples, all its answers but
-- perturbations. Only answers with a value are in one; total is the value with the length penalty.

-- One row per answer in a group. rank: 1 is the best, equal totals share one. advantage: (total - mean) / (std + 0.0001)
-- within the group, as TRL's GRPO has it (arXiv 2402.03300, section 4.1.2), and 0 where all totals are the same.
CREATE OR REPLACE VIEW advantages AS
WITH said AS (
    SELECT
        w.run_id, w.prompt_id, w.source, w.response_id, r.kind, r.sampler, r.round, w.value, w.length_penalty,
        total_reward(w.value, w.length_penalty) AS total, r.text, s.prompt_id IS NOT NULL AS sampled
    FROM rewards AS w
    JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.response_id
    -- Samples without rewards too: while these may still come, no other answer is in their place.
    LEFT JOIN (SELECT DISTINCT run_id, prompt_id FROM responses WHERE kind = 'sample') AS s
        ON s.run_id = w.run_id AND s.prompt_id = w.prompt_id
)
SELECT
    run_id, prompt_id, source, response_id, kind, sampler, round, value, length_penalty, total,
    rank() OVER (PARTITION BY run_id, prompt_id, source ORDER BY total DESC) AS rank,
    CASE WHEN max(total) OVER g = min(total) OVER g THEN 0
         ELSE (total - avg(total) OVER g) / (stddev_samp(total) OVER g + 1e-4) END AS advantage,
    text
FROM said WHERE value IS NOT NULL AND (kind = 'sample' OR NOT sampled)
WINDOW g AS (PARTITION BY run_id, prompt_id, source);

-- One row per group. Of equal totals the one with the least id, which is a digest, is best or worst: no place is
-- preferred. Where all are the same there is no worst.
CREATE OR REPLACE VIEW groups AS
SELECT
    run_id, prompt_id, source, count(*) AS n, count(DISTINCT text) AS distinct_texts, avg(total) AS mean,
    stddev_samp(total) AS std, max(total) - min(total) AS range, range = 0 AS unanimous,
    first(response_id ORDER BY total DESC, response_id) AS best_id,
    CASE WHEN NOT unanimous THEN first(response_id ORDER BY total, response_id) END AS worst_id
FROM advantages
GROUP BY run_id, prompt_id, source;

-- One row per reference, of which there is one a prompt at most: its text, where it is from, and whether anything may be
-- made from it.
CREATE OR REPLACE VIEW checked_references AS
SELECT
    r.run_id, r.prompt_id, r.id AS response_id, q.last_user, r.text, c.source, r.parent_id, r.seen_ids, r.model,
    c.agrees, c.majority, c.readings, c.missing, c.least, c.principle_id, c.drop_reason,
    c.id IS NOT NULL AND c.drop_reason IS NULL AS kept
FROM responses AS r
LEFT JOIN reference_checks AS c ON c.run_id = r.run_id AND c.response_id = r.id
LEFT JOIN prompts AS q ON q.run_id = r.run_id AND q.id = r.prompt_id
WHERE r.kind = 'reference';
