#!/usr/bin/env bash
# Train on several devices, one process each, started by MindSpore's msrun.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

USAGE="usage: bash run_distribute_train.sh --workers N [--nodes M --node-rank R --master ADDRESS:PORT] CONFIG_PATH [--key value ...]
N processes on this machine; with --nodes the same command runs on each of M machines, R from 0 to M - 1.
Any key of the configuration can be set, such as --parallel.curvature hybrid."

WORKERS="" NODES=1 NODE_RANK=0 MASTER=127.0.0.1:8118
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help)
        echo "$USAGE"
        exit 0
        ;;
    --workers | --nodes | --node-rank | --master)
        [ $# -ge 2 ] || usage_error "$USAGE"
        case "$1" in
        --workers) WORKERS="$2" ;;
        --nodes) NODES="$2" ;;
        --node-rank) NODE_RANK="$2" ;;
        --master) MASTER="$2" ;;
        esac
        shift 2
        ;;
    *) break ;;
    esac
done

# require_count NAME VALUE MINIMUM
require_count() {
    [[ "$2" =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || fail "$1=$2; must be an int >= $3"
}

if [ $# -lt 1 ] || [[ "$1" == --* ]] || [ -z "$WORKERS" ]; then
    usage_error "$USAGE"
fi
require_count --workers "$WORKERS" 1
require_count --nodes "$NODES" 1
require_count --node-rank "$NODE_RANK" 0
[ "$NODE_RANK" -lt "$NODES" ] || fail "--node-rank=$NODE_RANK; must be below --nodes=$NODES"
[[ "$MASTER" =~ ^[^:]+:[0-9]+$ ]] || fail "--master=$MASTER; must be ADDRESS:PORT"
require_file CONFIG_PATH "$1"
CONFIG_PATH="$(absolute "$1")"
shift

set_up zoo
cd "$ROOT"
TOTAL=$((WORKERS * NODES))
LOGS="$ROOT/runs/logs/$(date +%Y%m%d-%H%M%S)"
mkdir -p "$LOGS"
echo "logs of the ranks: $LOGS/worker_*.log"
PATH="$VENV/bin:$PATH" exec "$VENV/bin/msrun" --worker_num="$TOTAL" --local_worker_num="$WORKERS" \
    --node_rank="$NODE_RANK" --master_addr="${MASTER%:*}" --master_port="${MASTER##*:}" --log_dir="$LOGS" \
    --tail_worker_log=0 --join=True "$ROOT/scripts/run_module.py" models.train --config "$CONFIG_PATH" \
    --parallel.device_num "$TOTAL" "$@"
