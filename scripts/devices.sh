# Sourced by common.sh: makes CUDA and CANN known to what the scripts start. Both do nothing where there is neither.
#
#   CUDA_HOME  CUDA 11.6 or 11.1; /usr/local/cuda when not set and it has bin/nvcc
#   CANN       CANN's set_env.sh; found at its usual places when not set and no set_env.sh has been sourced yet

CANN_PLACES=(/usr/local/Ascend/cann /usr/local/Ascend/ascend-toolkit "${HOME:-}/Ascend/cann" "${HOME:-}/Ascend/ascend-toolkit")
CUDA_PLACE="${CUDA_PLACE:-/usr/local/cuda}"

# has_cann: whether CANN's set_env.sh has been sourced
has_cann() {
    [ -n "${ASCEND_HOME_PATH:-${ASCEND_TOOLKIT_HOME:-}}" ]
}

# use_cann: sources set_env.sh, which puts CANN's libraries on LD_LIBRARY_PATH and its te and hccl on PYTHONPATH
use_cann() {
    local place
    if [ -n "${CANN:-}" ]; then
        [ -f "$CANN" ] || fail "CANN=$CANN is not a file; set it to the set_env.sh of CANN"
        source_loosely "$CANN"
        return
    fi
    has_cann && return
    for place in "${CANN_PLACES[@]}"; do
        if [ -f "$place/set_env.sh" ]; then
            source_loosely "$place/set_env.sh"
            return
        fi
    done
}

# source_loosely FILE: set_env.sh reads variables that may not be set
source_loosely() {
    local file="$1"
    set --
    set +eu
    source "$file"
    set -eu
}

# sees_system FOLDER: whether a virtual environment sees the packages of the Python it was made with
sees_system() {
    grep -qi '^include-system-site-packages *= *true' "$1/pyvenv.cfg" 2>/dev/null
}

# use_cuda: sets CUDA_HOME, from which MindSpore chooses its plugin, and puts its libraries on LD_LIBRARY_PATH
use_cuda() {
    if [ -z "${CUDA_HOME:-}" ] && [ -x "$CUDA_PLACE/bin/nvcc" ]; then
        export CUDA_HOME="$CUDA_PLACE"
    fi
    if [ -n "${CUDA_HOME:-}" ] && [[ ":${LD_LIBRARY_PATH:-}:" != *":$CUDA_HOME/lib64:"* ]]; then
        export LD_LIBRARY_PATH="$CUDA_HOME/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
}
