#!/usr/bin/env bash
# Train on one device. Without arguments: a ResNet on scikit-learn's digits, on the CPU.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_standalone_train.sh [--key value ...]
       bash run_standalone_train.sh DATASET_PATH CONFIG_PATH [--key value ...]
DATASET_PATH is a directory, or none for a dataset that needs no files (digits).
Any key of the configuration can be set, such as --optimizer.frequency 50."

print_usage_if_asked "$@"
CONFIG_PATH="$ROOT/configs/resnet/resnet18_digits.yaml"
OVERRIDES=()
if [[ "${1:---}" != --* ]]; then
    if [ $# -lt 2 ] || [[ "$2" == --* ]]; then
        usage_error "$USAGE"
    fi
    read_file CONFIG_PATH "$2"
    read_dataset "$1"
    shift 2
fi

set_up zoo
run_module models.train --config "$CONFIG_PATH" "${OVERRIDES[@]}" "$@"
