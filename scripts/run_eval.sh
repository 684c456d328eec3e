#!/usr/bin/env bash
# Evaluate a checkpoint on one device.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_eval.sh DATASET_PATH CHECKPOINT_PATH CONFIG_PATH [--key value ...]
$EVALUATION"

read_words "$@"
set_up zoo
run_module "${WORDS[@]}"
