#!/usr/bin/env bash
# Set up and run the tests, two files at a time; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

set_up zoo,test
run_module pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
