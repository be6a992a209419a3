#!/bin/sh
# Measure a data set as the papers do and print their tables with rows of one's own:
#   sh jobs/reproduce.sh DATASET          flickr8k, flickr30k, iaprtc12, coco (Karpathy's dataset_coco.json), scenes
# It extracts features, trains and evaluates the models that the papers report on the data set, and measures n-gram
# models and other baselines. After a stop or a failure, run the same line again: finished work is kept.
#   ROOT      folder of the data set (default: as for extract-features)
#   OUT       output folder (default: runs/reproduce-DATASET)
#   BACKBONE  network (default: alexnet, whose fc7 m-RNN v1 used; DVSA's generator used vgg16)
#   WEIGHTS   its weights (default: pretrained)
#   REGIONS   regions of the alignment model (default: grid; as DVSA: a detector, see docs/extraction.md)
#   MODELS    models to train (default: those of the data set's tables)
#   LIMIT, EPOCHS   number of images and of epochs, for a trial
#   EXTRACT, TRAIN, EVALUATE   further options of extract-features, train-mrnn and evaluate-mrnn, separated by spaces
set -eu
dataset=${1:?"name a data set: sh jobs/reproduce.sh flickr8k"}
out=${OUT:-runs/reproduce-$dataset}
models="mrnn rnn-base generator alignment" cutoff=5
if [ "$dataset" = iaprtc12 ]; then # DVSA has no rows on it; v1 compares with the log-bilinear models
    models="mrnn rnn-base lbl mlbl-b mlbl-f" cutoff=2
fi
mkdir -p "$out"

extract() { # OUTPUT OPTIONS: exit code 3 means finished, but some images could not be read
    output=$1 code=0
    shift
    # shellcheck disable=SC2086
    extract-features --dataset "$dataset" --output "$output" ${root:+--root "$root"} ${LIMIT:+--limit "$LIMIT"} \
        --backbone "${BACKBONE:-alexnet}" --weights "${WEIGHTS:-pretrained}" "$@" ${EXTRACT:-} || code=$?
    [ "$code" -eq 3 ] || return "$code"
}

evaluate() { # FOLDER OPTIONS, of the $model of the loop below
    results=$1
    shift
    # shellcheck disable=SC2086
    evaluate-mrnn --checkpoint "$out/$model" --features "$features" --output "$results" "$@" ${EVALUATE:-}
}

root=${ROOT:-}
if [ "$dataset" = scenes ]; then
    root=${ROOT:-$out/scenes}
fi
set -- # the results, for the table
extract "$out/feats.h5"
for model in ${MODELS:-$models}; do
    features=$out/feats.h5
    if [ "$model" = alignment ]; then
        features=$out/regions.h5
        extract "$features" --regions "${REGIONS:-grid}"
    fi
    # shellcheck disable=SC2086
    train-mrnn --model "$model" --features "$features" --output "$out/$model" --cutoff "$cutoff" \
        ${EPOCHS:+--epochs "$EPOCHS"} ${TRAIN:-}
    results=$out/$model-results
    case $model in # what the papers measure: v1 takes the most probable word at each step, DVSA a beam of 7
    alignment) evaluate "$results" --only retrieval ;;
    generator) evaluate "$results" --only perplexity,generation --beam 7 ;;
    rnn-base | lbl) evaluate "$results" --only perplexity,generation --beam 1 ;; # they see no image
    *) evaluate "$results" --only perplexity,generation,retrieval --beam 1 ;;
    esac
    set -- "$@" --beside "$results"
    case $dataset-$model in # both papers also retrieve among 1,000 images, DVSA's 5,000 are the whole test split
    coco-mrnn | coco-alignment)
        evaluate "$out/$model-results-1k" --only retrieval --pool 1000 --folds 5
        set -- "$@" --beside "$out/$model-results-1k"
        ;;
    esac
done
evaluate-baselines --features "$out/feats.h5" --cutoff "$cutoff" --output "$out/baselines" "$@"
