#!/usr/bin/env bash
# A run in shards, each a task of a job array; whichever ends last finishes the run:
#   sbatch --array=1-16 deploy/slurm.sh recipes/mine.toml --warehouse /shared/warehouse
#   SHARDS=16 sbatch --array=3,7 deploy/slurm.sh recipes/mine.toml …     two of the sixteen again
# Options of sbatch go before the script's name, those of `constitution run` behind it. The warehouse is in a folder that
# all nodes see, or at a URL. For the engine vllm add `--gpus-per-task=1`, a shard's own GPU; for a model server, its
# address in the recipe.
#SBATCH --job-name=constitution
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
set -uo pipefail

# Slurm counts the tasks that were submitted now, which are not all shards when some are worked again.
shards=${SHARDS:-$SLURM_ARRAY_TASK_MAX}
if [ -z "${SHARDS:-}" ] && [ "$SLURM_ARRAY_TASK_MIN-$SLURM_ARRAY_TASK_COUNT" != "1-$SLURM_ARRAY_TASK_MAX" ]; then
  echo "these are not all shards of a run: give --array=1-N, or say in SHARDS how many shards the run has" >&2
  exit 2
fi

# SIGTERM is a cancellation or a preemption; SIGUSR1 comes before the time limit, and then the shard resumes later.
again='' signalled=''
constitution run "$@" --shard "$SLURM_ARRAY_TASK_ID/$shards" &
shard=$!
trap 'signalled=1; kill -TERM "$shard"' TERM
trap 'signalled=1 again=1; kill -TERM "$shard"' USR1
while wait "$shard"; code=$?; [ -n "$signalled" ]; do
  signalled='' # it ended the wait, not the shard
done
if [ -n "$again" ] && [ "$code" -ne 0 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
