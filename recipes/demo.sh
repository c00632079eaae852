#!/usr/bin/env bash
# The demo is nothing but the commands that a user types; `make demo` runs it in the project's environment.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
export CONSTITUTION_WAREHOUSE="${CONSTITUTION_WAREHOUSE:-warehouse}"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$*"; "$@"; }
sql() { say "constitution sql \"$1\""; constitution sql "$1"; }

run constitution run recipes/pocket.toml

sql "SELECT coalesce(drop_reason, 'kept') AS pair, count(*) AS n, round(avg(p_chosen), 3) AS p_chosen,
     round(avg(consistency), 3) AS consistency FROM preferences GROUP BY ALL ORDER BY n DESC"
sql "SELECT principle_id, count(*) AS drawn, round(avg((outcome = 'ok')::INT), 3) AS changed_the_answer
     FROM responses WHERE kind = 'revision' GROUP BY ALL ORDER BY changed_the_answer DESC"
sql "SELECT rejected, chosen, round(p_chosen, 2) AS p FROM pairs WHERE kept ORDER BY p_chosen DESC, id LIMIT 3"

# How far the judge can be trusted: against the grammar's truth, and where it has habits.
run python -m constitution.pocket.truth --out "$CONSTITUTION_WAREHOUSE/truth.csv"
run constitution annotations import "$CONSTITUTION_WAREHOUSE/truth.csv"
run constitution audit --out "$CONSTITUTION_WAREHOUSE/report.html"

# What a trainer loads, with its card; every pair that was left out has its reason.
run constitution export --format dpo --out "$CONSTITUTION_WAREHOUSE/data/dpo" --overwrite
sql "SELECT split, drop_reason, count(*) AS n FROM exported GROUP BY ALL ORDER BY n DESC"

printf '\nThe data lies in %s/: Parquet by table and run, and warehouse.duckdb over it.\n' "$CONSTITUTION_WAREHOUSE"
