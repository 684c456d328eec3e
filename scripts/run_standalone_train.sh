#!/usr/bin/env bash
# Train on one device. Without arguments: a ResNet on scikit-learn's digits, on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_standalone_train.sh [DATASET_PATH CONFIG_PATH [RESUME_CKPT] | [RUN_EVAL \
EVAL_DATASET_PATH [RESUME_CKPT]]] [--key value ...]
$TRAINING"

read_words "$@"
set_up zoo
run_module "${WORDS[@]}"
