#!/usr/bin/env bash
# Train on several devices, one process each, started by MindSpore's msrun.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train.sh RANK_TABLE_FILE DATASET_PATH CONFIG_PATH [RESUME_CKPT] | [RUN_EVAL \
EVAL_DATASET_PATH [RESUME_CKPT]] [--key value ...], or --workers N [--nodes M --node-rank R --master ADDRESS:PORT] \
CONFIG_PATH [--key value ...]
The first form is for Ascend servers: the same command on each server of the rank table. The second is for any device: N
processes on this machine; with --nodes the same command on each of M machines, R from 0 to M - 1.
$TRAINING"

read_words "$@"
set_up zoo
run_module "${WORDS[@]}"
