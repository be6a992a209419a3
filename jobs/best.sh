#!/bin/sh
# Reach the best numbers of docs/results.md: m-RNN with --preset best for captions; for retrieval, m-RNN with --preset
# retrieval together with a model of mean words and two alignment models, of whole images and of regions.
#   sh jobs/best.sh DATASET          flickr8k, flickr30k, iaprtc12, coco (Karpathy's dataset_coco.json), scenes
# It extracts two caches, trains the models, and measures captions and retrieval of each seed, and of all seeds
# together. After a stop or a failure, run the same line again: finished work is kept.
#   ROOT      folder of the data set (default: as for extract-features)
#   OUT       output folder (default: runs/best-DATASET)
#   BACKBONE  network (default: timm:tf_efficientnet_lite0)
#   WEIGHTS   its weights (default: pretrained)
#   LAYER     its layers (default: blocks.4+blocks.5+penultimate, which are those of EfficientNet-Lite0)
#   SEEDS     seeds of all models but the alignment of regions, which is one (default: "0 1 2")
#   LIMIT, EPOCHS   number of images and of epochs, for a trial
#   EXTRACT, TRAIN, EVALUATE   further options of extract-features, train-mrnn and evaluate-mrnn, separated by spaces
set -eu
dataset=${1:?"name a data set: sh jobs/best.sh flickr8k"}
out=${OUT:-runs/best-$dataset} root=${ROOT:-} seeds=${SEEDS:-0 1 2}
if [ "$dataset" = scenes ]; then
    root=${ROOT:-$out/scenes}
fi
mkdir -p "$out"

extract() { # OUTPUT OPTIONS: exit code 3 means finished, but some images could not be read
    output=$1 code=0
    shift
    # shellcheck disable=SC2086
    extract-features --dataset "$dataset" --output "$output" ${root:+--root "$root"} ${LIMIT:+--limit "$LIMIT"} \
        --backbone "${BACKBONE:-timm:tf_efficientnet_lite0}" --weights "${WEIGHTS:-pretrained}" "$@" ${EXTRACT:-} ||
        code=$?
    [ "$code" -eq 3 ] || return "$code"
}

train() { # RUN OPTIONS
    run=$1
    shift
    # shellcheck disable=SC2086
    train-mrnn --output "$run" "$@" ${EPOCHS:+--epochs "$EPOCHS"} ${TRAIN:-}
}

evaluate() { # OUTPUT OPTIONS
    results=$1
    shift
    # shellcheck disable=SC2086
    evaluate-mrnn --output "$results" "$@" ${EVALUATE:-}
}

retrieve() { # OUTPUT SEEDS: by the m-RNNs of all seeds together with the other models of the first
    results=$1 first=$2
    shift 2
    further=$*
    set -- --checkpoint "$out/rank-$first" --features "$whole" --only retrieval --local-scaling
    for each in $further; do
        set -- "$@" --combine "$out/rank-$each" "$whole"
    done
    evaluate "$results" "$@" --combine "$out/devise-$first" "$whole" --combine "$out/align-$first" "$whole" \
        --combine "$out/align-regions" "$regions"
}

whole=$out/whole.h5 regions=$out/regions.h5
extract "$whole" --layer "${LAYER:-blocks.4+blocks.5+penultimate}" --views flip --warp --resize 320 --crop 320
extract "$regions" --region-features roi --regions grid
train "$out/align-regions" --features "$regions" --model alignment
for seed in $seeds; do
    train "$out/best-$seed" --features "$whole" --preset best --seed "$seed"
    train "$out/rank-$seed" --features "$whole" --preset retrieval --seed "$seed"
    train "$out/devise-$seed" --features "$whole" --model devise --image-dropout 0.6 --seed "$seed"
    train "$out/align-$seed" --features "$whole" --model alignment --image-dropout 0.2 --seed "$seed"
    evaluate "$out/captions-$seed" --checkpoint "$out/best-$seed" --features "$whole" --only perplexity,generation \
        --consensus
    retrieve "$out/retrieval-$seed" "$seed"
done
set -- # the options for an ensemble of all seeds
for seed in $seeds; do
    set -- "$@" --checkpoint "$out/best-$seed"
done
evaluate "$out/captions" "$@" --features "$whole" --only perplexity,generation --consensus
# shellcheck disable=SC2086
retrieve "$out/retrieval" $seeds
