#!/usr/bin/env bash
# Pretrain BERT on several devices of one machine.
#
#   CONFIG_PATH  the configuration; BERT-large with THOR on Ascend when not set
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_pretrain.sh DEVICE_NUM EPOCH_SIZE DATA_DIR SCHEMA_DIR RANK_TABLE_FILE
                                         [--key value ...]
EPOCH_SIZE counts the configuration's epochs, of train.sink_size steps each. DATA_DIR is a directory made by
python -m models.bert.prepare, or one of BERT's TFRecord files, then with --data.eval_path and held-out records.
SCHEMA_DIR is not needed to read them and may be none; RANK_TABLE_FILE may be none on one machine.
CONFIG_PATH chooses another configuration than configs/bert/bert_large_ascend_8p.yaml."

print_usage_if_asked "$@"
if [ $# -lt 5 ]; then
    usage_error "$USAGE"
fi
for argument in "${@:1:5}"; do
    [[ "$argument" != --* ]] || usage_error "$USAGE"
done
require_count DEVICE_NUM "$1" "$MOST_WORKERS"
require_count EPOCH_SIZE "$2" 1000000
DEVICE_NUM="$1"
EPOCH_SIZE="$2"
shift 2
require_directory DATA_DIR "$1"
[ "$2" = none ] || [ -e "$2" ] || fail "SCHEMA_DIR=$(shown "$2") is not a file or directory"
[ "$3" = none ] || require_file RANK_TABLE_FILE "$3"
CONFIG_PATH="${CONFIG_PATH:-$ROOT/configs/bert/bert_large_ascend_8p.yaml}"
require_file CONFIG_PATH "$CONFIG_PATH"
DATA_DIR="$(absolute "$1")"
LAUNCH=(--workers "$DEVICE_NUM")
[ "$3" = none ] || LAUNCH+=(--rank-table "$(absolute "$3")")
shift 3
exec bash "$ROOT/scripts/run_distribute_train.sh" "${LAUNCH[@]}" "$CONFIG_PATH" \
    --train.epochs "$EPOCH_SIZE" --data.path "$DATA_DIR" "$@"
