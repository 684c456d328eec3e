#!/usr/bin/env bash
# Pretrain BERT on several devices of one machine.
#
#   CONFIG_PATH  the configuration; BERT-large with THOR on Ascend when not set
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_pretrain.sh DEVICE_NUM EPOCH_SIZE DATA_DIR SCHEMA_DIR RANK_TABLE_FILE [--key value ...]
EPOCH_SIZE counts the configuration's epochs, of train.sink_size steps each. DATA_DIR is a directory made by
python -m models.bert.prepare, or one of BERT's TFRecord files, then with --data.eval_path and held-out records.
SCHEMA_DIR is not needed to read them and may be none; RANK_TABLE_FILE may be none on one machine.
CONFIG_PATH chooses another configuration than configs/bert/bert_large_ascend_8p.yaml."

read_words "$@"
set_up zoo
run_module "${WORDS[@]}"
