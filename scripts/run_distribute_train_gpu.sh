#!/usr/bin/env bash
# Train on the GPUs of one machine, one process each.
#
#   DEVICE_NUM  GPUs; those nvidia-smi lists when not set, CUDA_VISIBLE_DEVICES chooses among them
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train_gpu.sh DATASET_PATH CONFIG_PATH [--key value ...]
DATASET_PATH is a directory, or none for a dataset that needs no files (digits). DEVICE_NUM says how many GPUs train;
all that are visible when it is not set."

print_usage_if_asked "$@"
if [ $# -lt 2 ] || [[ "$1" == --* || "$2" == --* ]]; then
    usage_error "$USAGE"
fi
read_file CONFIG_PATH "$2"
read_dataset "$1"
shift 2
if [ -z "${DEVICE_NUM:-}" ]; then
    if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
        DEVICE_NUM="$(tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l)"
    else
        command -v nvidia-smi >/dev/null || fail "nvidia-smi is not on PATH; set DEVICE_NUM to the number of GPUs"
        DEVICE_NUM="$(nvidia-smi --list-gpus | grep -c '^GPU')"
    fi
fi
require_count DEVICE_NUM "$DEVICE_NUM" "$MOST_WORKERS"
exec bash "$ROOT/scripts/run_distribute_train.sh" --workers "$DEVICE_NUM" "$CONFIG_PATH" --device.target GPU \
    "${OVERRIDES[@]}" "$@"
