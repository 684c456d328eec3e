#!/usr/bin/env bash
# Evaluate a checkpoint on one device.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_eval.sh DATASET_PATH CHECKPOINT_PATH CONFIG_PATH [--key value ...]
DATASET_PATH is a directory, or none for a dataset that needs no files (digits)."

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    echo "$USAGE"
    exit 0
fi
if [ $# -lt 3 ] || [[ "$1" == --* || "$2" == --* || "$3" == --* ]]; then
    usage_error "$USAGE"
fi
DATASET_PATH="$1"
[ "$DATASET_PATH" = none ] || require_directory DATASET_PATH "$DATASET_PATH"
require_file CHECKPOINT_PATH "$2"
require_file CONFIG_PATH "$3"
CHECKPOINT_PATH="$(absolute "$2")"
CONFIG_PATH="$(absolute "$3")"
shift 3
[ "$DATASET_PATH" = none ] || set -- --data.path "$(absolute "$DATASET_PATH")" "$@"

set_up zoo
run_module models.evaluate --config "$CONFIG_PATH" --checkpoint "$CHECKPOINT_PATH" "$@"
