#!/usr/bin/env bash
# Train on several devices, one process each, started by MindSpore's msrun.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train.sh RANK_TABLE_FILE DATASET_PATH CONFIG_PATH [RESUME_CKPT] [--key value ...]
       bash run_distribute_train.sh --workers N [--nodes M --node-rank R --master ADDRESS:PORT] CONFIG_PATH [--key value ...]
The first form is for Ascend servers: the same command on each server of the rank table; DATASET_PATH may be none.
The second is for any device: N processes on this machine; with --nodes the same command on each of M machines, R from
0 to M - 1. Any key of the configuration can be set, such as --parallel.curvature hybrid."

print_usage_if_asked "$@"
find_any_python
mapfile -d '' -t WORDS < <("$ANY_PYTHON" "$ROOT/models/launch/arguments.py" "$@")
wait $! || case $? in
2) usage_error "$USAGE" ;;
*) exit 1 ;;
esac

set_up zoo
run_module models.launch "${WORDS[@]}"
