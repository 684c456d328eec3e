#!/usr/bin/env bash
# Train on several devices, one process each, started by MindSpore's msrun.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train.sh RANK_TABLE_FILE DATASET_PATH CONFIG_PATH [RESUME_CKPT] [--key value ...]
       bash run_distribute_train.sh --workers N [--nodes M --node-rank R --master ADDRESS:PORT] CONFIG_PATH [--key value ...]
The first form is for Ascend servers: the same command on each server of the rank table; DATASET_PATH may be none.
The second is for any device: N processes on this machine; with --nodes the same command on each of M machines, R from
0 to M - 1. Any key of the configuration can be set, such as --parallel.curvature hybrid."

WORKERS="" NODES=1 NODE_RANK=0 MASTER=127.0.0.1:8118 RANK_TABLE=""

# require_count NAME VALUE MINIMUM
require_count() {
    [[ "$2" =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || fail "$1=$2; must be an int >= $3"
}

# Both forms end with these set: CONFIG_PATH LAUNCH OVERRIDES
read_neutral_form() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --workers | --nodes | --node-rank | --master | --rank-table)
            [ $# -ge 2 ] || usage_error "$USAGE"
            case "$1" in
            --workers) WORKERS="$2" ;;
            --nodes) NODES="$2" ;;
            --node-rank) NODE_RANK="$2" ;;
            --master) MASTER="$2" ;;
            --rank-table) RANK_TABLE="$2" ;;
            esac
            shift 2
            ;;
        *) break ;;
        esac
    done
    if [ $# -lt 1 ] || [[ "$1" == --* ]] || [ -z "$WORKERS" ]; then
        usage_error "$USAGE"
    fi
    require_count --workers "$WORKERS" 1
    require_count --nodes "$NODES" 1
    require_count --node-rank "$NODE_RANK" 0
    [ "$NODE_RANK" -lt "$NODES" ] || fail "--node-rank=$NODE_RANK; must be below --nodes=$NODES"
    [[ "$MASTER" =~ ^[^:]+:[0-9]+$ ]] || fail "--master=$MASTER; must be ADDRESS:PORT"
    LAUNCH=(--workers "$WORKERS" --nodes "$NODES" --node-rank "$NODE_RANK" --master "$MASTER")
    if [ -n "$RANK_TABLE" ]; then
        require_file --rank-table "$RANK_TABLE"
        LAUNCH=(--workers "$WORKERS" --rank-table "$(absolute "$RANK_TABLE")")
    fi
    read_file CONFIG_PATH "$1"
    shift
    OVERRIDES=("$@")
}

read_rank_table_form() {
    if [ $# -lt 3 ] || [[ "$2" == --* || "$3" == --* ]]; then
        usage_error "$USAGE"
    fi
    read_file RANK_TABLE_FILE "$1"
    LAUNCH=(--rank-table "$RANK_TABLE_FILE")
    read_dataset "$2"
    read_file CONFIG_PATH "$3"
    shift 3
    if [ $# -gt 0 ] && [[ "$1" != --* ]]; then
        read_file RESUME_CKPT "$1"
        OVERRIDES+=(--train.resume "$RESUME_CKPT")
        shift
    fi
    OVERRIDES+=("$@")
}

print_usage_if_asked "$@"
case "${1:---}" in
--*) read_neutral_form "$@" ;;
*) read_rank_table_form "$@" ;;
esac

set_up zoo
run_module models.launch "${LAUNCH[@]}" models.train --config "$CONFIG_PATH" "${OVERRIDES[@]}"
