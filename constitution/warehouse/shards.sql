-- One row per shard that a run is dealt into, as its record has it: of one at work at most ten seconds old. number 0: what
-- was done before it was dealt into these, so that starts, seconds and engines' hours of all rows are the run's.
CREATE OR REPLACE VIEW shards AS
WITH files AS (
    SELECT
        coalesce(
            json, error(file || ': cannot be read as a shard (`constitution verify --repair` quarantines it)')
        ) AS shard
    FROM glob(coalesce(getvariable('root') || '/', '') || '{files}')
    LEFT JOIN read_json_objects(
        coalesce(getvariable('root') || '/', '') || '{files}',
        format = 'unstructured', hive_partitioning = false, filename = 'path'
    ) ON path = file
    WHERE regexp_matches(file, '/[A-Za-z0-9][A-Za-z0-9._-]*/([1-9][0-9]*of[1-9][0-9]*|before)[.]json$')
)
SELECT
    shard ->> '$.run_id' AS run_id,
    (shard ->> '$.number')::INTEGER AS number,
    (shard ->> '$.of')::INTEGER AS of,
    shard ->> '$.host' AS host,
    (shard ->> '$.process')::BIGINT AS process,
    shard ->> '$.user' AS "user",
    CASE WHEN shard ->> '$.number' = '0' THEN 'before' WHEN shard ->> '$.ended_at' IS NULL THEN 'open' ELSE 'ended' END
        AS status,
    (shard ->> '$.started_at')::TIMESTAMPTZ AS started_at,
    (shard ->> '$.beat_at')::TIMESTAMPTZ AS beat_at,
    (shard ->> '$.ended_at')::TIMESTAMPTZ AS ended_at,
    shard ->> '$.stopped' AS stopped,
    (shard ->> '$.starts')::INTEGER AS starts,
    (shard ->> '$.seconds')::DOUBLE AS seconds,
    (shard ->> '$.cost')::DOUBLE AS cost,
    (shard ->> '$.counts.prompts')::BIGINT AS prompts,
    (shard ->> '$.counts.done')::BIGINT AS done,
    (shard ->> '$.counts.open')::BIGINT AS open,
    (shard ->> '$.counts.lost')::BIGINT AS lost,
    (shard ->> '$.counts.responses')::BIGINT AS responses,
    (shard ->> '$.counts.judgements')::BIGINT AS judgements,
    (shard ->> '$.counts.preferences')::BIGINT AS preferences,
    (shard ->> '$.counts.failures')::BIGINT AS failures,
    list_sum((shard -> '$.usage[*].calls')::BIGINT[])::BIGINT AS calls,
    (shard ->> '$.counts.prompt_tokens')::BIGINT AS prompt_tokens,
    (shard ->> '$.counts.completion_tokens')::BIGINT AS completion_tokens,
    shard -> '$.counts' AS counts,
    shard -> '$.usage' AS usage,
    shard -> '$.engines' AS engines,
    shard -> '$.models' AS models
FROM files
-- A kill may have left records of another number of shards, whose work is in that of number 0.
QUALIFY shard ->> '$.of' = max(shard ->> '$.of') FILTER (shard ->> '$.number' = '0') OVER (PARTITION BY run_id);
