#!/usr/bin/env bash
# Evaluate a checkpoint on one device.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_eval.sh DATASET_PATH CHECKPOINT_PATH CONFIG_PATH [--key value ...]
DATASET_PATH is a directory, or none for a dataset that needs no files (digits)."

print_usage_if_asked "$@"
if [ $# -lt 3 ] || [[ "$1" == --* || "$2" == --* || "$3" == --* ]]; then
    usage_error "$USAGE"
fi
read_dataset "$1"
read_file CHECKPOINT_PATH "$2"
read_file CONFIG_PATH "$3"
shift 3

set_up zoo
run_module models.evaluate --config "$CONFIG_PATH" --checkpoint "$CHECKPOINT_PATH" "${OVERRIDES[@]}" "$@"
