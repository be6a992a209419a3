#!/bin/sh
# Submit a whole experiment: extraction in shards, merging, training, evaluation. Each job waits for the one before.
#   sh jobs/submit.sh OUT SHARDS [options of extract-features]
# Activate the virtual environment first. The script prints the job numbers. After a failure, run the same line again:
# finished work is kept. These variables hold options, separated by spaces:
#   TRAIN, EVALUATE              for train-mrnn and evaluate-mrnn
#   SBATCH_EXTRACT, SBATCH_TRAIN, SBATCH_EVALUATE   for sbatch: "--gpus-per-task=1 --time=1:00:00"
set -eu
jobs=$(cd "$(dirname "$0")" && pwd)
out=$1 shards=$2
shift 2
mkdir -p "$out/logs"
submit() { sbatch --parsable --output="$out/logs/%x-%j.out" "$@" | cut -d ';' -f 1; }

# shellcheck disable=SC2086
{
    extract=$(submit --array="0-$((shards - 1))" ${SBATCH_EXTRACT:-} "$jobs/extract.sbatch" "$out" "$shards" "$@")
    merge=$(submit --dependency="afterok:$extract" "$jobs/merge.sbatch" "$out" "$shards")
    train=$(submit --dependency="afterok:$merge" ${SBATCH_TRAIN:-} "$jobs/train.sbatch" \
        --features "$out/feats.h5" --output "$out/run" ${TRAIN:-})
    evaluate=$(submit --dependency="afterok:$train" ${SBATCH_EVALUATE:-} "$jobs/evaluate.sbatch" \
        --checkpoint "$out/run" --features "$out/feats.h5" --output "$out/results" ${EVALUATE:-})
}
echo "extract $extract"
echo "merge $merge"
echo "train $train"
echo "evaluate $evaluate"
