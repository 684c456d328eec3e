#!/usr/bin/env bash
# Train on the GPUs of one machine, one process each.
#
#   DEVICE_NUM  GPUs; those nvidia-smi lists when not set, CUDA_VISIBLE_DEVICES chooses among them
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train_gpu.sh DATASET_PATH CONFIG_PATH [RESUME_CKPT] | [RUN_EVAL \
EVAL_DATASET_PATH [RESUME_CKPT]] [--key value ...]
DEVICE_NUM says how many GPUs train; all that are visible when it is not set.
$TRAINING"

read_words "$@"
set_up zoo
run_module "${WORDS[@]}"
