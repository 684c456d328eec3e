#!/usr/bin/env bash
# Pretrain BERT on one device. Without arguments: make data from text that is on the machine, and pretrain a small
# BERT with THOR on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_standalone_pretrain.sh [--key value ...]
       bash run_standalone_pretrain.sh DATA_DIR CONFIG_PATH [--key value ...]
DATA_DIR is a directory made by python -m models.bert.prepare, or one of BERT's TFRecord files.
Any key of the configuration can be set, such as --optimizer.frequency 50."

print_usage_if_asked "$@"
CONFIG_PATH="$ROOT/configs/bert/bert_small.yaml"
DATA_DIR=""
if [[ "${1:---}" != --* ]]; then
    if [ $# -lt 2 ] || [[ "$2" == --* ]]; then
        usage_error "$USAGE"
    fi
    require_directory DATA_DIR "$1"
    DATA_DIR="$(absolute "$1")"
    read_file CONFIG_PATH "$2"
    shift 2
fi

set_up zoo
cd "$ROOT"
if [ -z "$DATA_DIR" ]; then
    DATA_DIR="$ROOT/runs/bert_data"
    "$RUN_PYTHON" -m models.bert.prepare --output "$DATA_DIR" --vocab_size 2048 --sequence_length 32 \
        --max_predictions 5 --dup_factor 2 --held_out 0.05 --part_mb 3
fi
run_module models.train --config "$CONFIG_PATH" --data.path "$DATA_DIR" "$@"
