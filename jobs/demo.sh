#!/bin/sh
# Run the whole pipeline: extract, train, evaluate; for the scenes with regions and an alignment, too. `make demo` runs
# this script inside the virtual environment.
#   DATASET  scenes (default: synthetic images drawn by the program) or any name that extract-features knows
#   ROOT     folder of that data set
#   LIMIT    number of images to use of a named data set (default 1000)
#   WEIGHTS  weights of the network (default: pretrained if they can be downloaded, else seeded random, with a notice)
#   OUT      output folder (default: runs/demo-<data set>)
set -eu
DATASET=${DATASET:-scenes}
OUT=${OUT:-runs/demo-$DATASET}
mkdir -p "$OUT"

extract() { # exit code 3: finished, but some images could not be read
    code=0
    extract-features "$@" || code=$?
    [ "$code" -eq 3 ] || return "$code"
}

set -- --dataset "$DATASET" --output "$OUT/feats.h5"
if [ "$DATASET" = scenes ]; then
    set -- "$@" --root "${ROOT:-$OUT/scenes}"
else
    set -- "$@" ${ROOT:+--root "$ROOT"} --limit "${LIMIT:-1000}"
fi
if [ -n "${WEIGHTS:-}" ]; then
    weights=$WEIGHTS
    extract "$@" --weights "$weights"
elif weights=pretrained && ! extract "$@" --weights "$weights"; then
    echo "NOTICE: pretrained AlexNet weights are not available here. The demo continues with RANDOM weights (seed 0):"
    echo "NOTICE: the pipeline is complete, but its features contain no knowledge of photographs."
    weights=random:0
    extract "$@" --weights "$weights"
fi
train-mrnn --features "$OUT/feats.h5" --output "$OUT/run" --epochs "${EPOCHS:-12}" --cutoff "${CUTOFF:-3}"
evaluate-mrnn --checkpoint "$OUT/run" --features "$OUT/feats.h5" --output "$OUT/results" --normaliser-images 100
if [ "$DATASET" = scenes ]; then # their things have true boxes: which words speak of which thing?
    extract --dataset scenes --root "${ROOT:-$OUT/scenes}" --output "$OUT/regions.h5" --weights "$weights" \
        --regions boxes:annotated --regions-per-image 4 --region-features roi --roi-size 224
    train-mrnn --model alignment --features "$OUT/regions.h5" --output "$OUT/alignment" \
        --epochs 5 --cutoff "${CUTOFF:-3}"
    evaluate-mrnn --checkpoint "$OUT/alignment" --features "$OUT/regions.h5" --output "$OUT/alignment-results" \
        --normaliser-images 100
    align-sentences --checkpoint "$OUT/alignment" --features "$OUT/regions.h5" --html "$OUT/aligned.html" \
        >"$OUT/aligned.jsonl"
    echo "Regions and words: $OUT/aligned.html"
fi
echo "The report: $OUT/results/report.html"
