#!/usr/bin/env bash
# Pretrain BERT on one device. Without arguments: make data from text that is on the machine, and pretrain a small
# BERT with THOR on the CPU.
#
#   CONFIG_PATH  with DEVICE_ID: the configuration; BERT-large with THOR on Ascend when not set
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_standalone_pretrain.sh [DATA_DIR CONFIG_PATH | DEVICE_ID EPOCH_SIZE DATA_DIR [SCHEMA_DIR]] \
[--key value ...]
DATA_DIR is a directory made by python -m models.bert.prepare, or one of BERT's TFRecord files, then with
--data.eval_path and held-out records. SCHEMA_DIR is not needed to read them and may be none. EPOCH_SIZE counts the
configuration's epochs, of train.sink_size steps each. With DEVICE_ID the variable CONFIG_PATH chooses another
configuration than configs/bert/bert_large_ascend_8p.yaml, of which one device keeps the batch of eight.
Any key of the configuration can be set, such as --optimizer.frequency 50."

read_words "$@"
set_up zoo
if [[ "${1:---}" == --* ]]; then
    cd "$ROOT"
    "$RUN_PYTHON" -m models.bert.prepare --output "$ROOT/runs/bert_data" --vocab_size 2048 --sequence_length 32 \
        --max_predictions 5 --dup_factor 2 --held_out 0.05 --part_mb 3
fi
run_module "${WORDS[@]}"
