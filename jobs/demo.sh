#!/bin/sh
# The whole pipeline on real input: extract, train, evaluate. `make demo` runs it inside the virtual environment.
#   DATASET  scenes (default: pictures that the program draws itself) or any name that extract-features knows
#   ROOT     folder of that data set
#   LIMIT    images of a named data set to use (default 1000)
#   WEIGHTS  weights of the network (default: pretrained ones if they can be had, else seeded random ones, with a notice)
#   OUT      where everything goes (default: runs/demo-<data set>)
set -eu
DATASET=${DATASET:-scenes}
OUT=${OUT:-runs/demo-$DATASET}
mkdir -p "$OUT"

extract() { # exit code 3: finished, but for pictures that are listed
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
    extract "$@" --weights "$WEIGHTS"
elif ! extract "$@" --weights pretrained; then
    echo "NOTICE: pretrained AlexNet weights cannot be had here. The demo goes on with RANDOM weights (seed 0):"
    echo "NOTICE: the pipeline is the real one, but its features know nothing of photographs."
    extract "$@" --weights random:0
fi
train-mrnn --features "$OUT/feats.h5" --output "$OUT/run" --epochs "${EPOCHS:-12}" --cutoff "${CUTOFF:-3}"
evaluate-mrnn --checkpoint "$OUT/run" --features "$OUT/feats.h5" --output "$OUT/results" --normaliser-images 100
echo "The report: $OUT/results/report.html"
