#!/usr/bin/env bash
# Set up and run the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

set_up zoo,test
run_module pytest -q "$@"
