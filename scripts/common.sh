# Sourced by the other scripts: checks of arguments, and the virtual environment they run in.
#
#   PYTHON  Python 3.10, 3.11 or 3.12 to build the environment with; found on PATH when not set
#   VENV    folder of the environment; .venv in the repository when not set; none to install nothing and run PYTHON as
#           it is, where MindSpore and all else are installed already
#
# scripts/devices.sh says how CUDA and CANN are found.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
source "$ROOT/scripts/devices.sh"

fail() {
    echo "error: $*" >&2
    exit 1
}

# usage_error: the first line of the usage of the calling script, for a wrong number of arguments
usage_error() {
    echo "${USAGE%%$'\n'*}" >&2
    exit 1
}

TRAINING="DATASET_PATH is a directory, or none for a dataset that needs no files (digits); CONFIG_PATH a configuration of
configs/, or a flat file of MindSpore's own, which is translated. RESUME_CKPT is a checkpoint to go on with. RUN_EVAL is
True, or False to evaluate once at the end; EVAL_DATASET_PATH holds the held-out data, none if DATASET_PATH does.
Any key of the configuration can be set, such as --optimizer.frequency 50."

EVALUATION="DATASET_PATH is a directory, or none for a dataset that needs no files (digits); of ImageNet also the one with the
classes of held-out images alone."

# print_usage_if_asked [ARGUMENT...]
print_usage_if_asked() {
    if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
        echo "$USAGE"
        exit 0
    fi
}

VERSIONS="3.10, 3.11 or 3.12"

python_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

is_supported() {
    [[ "$1" =~ ^3\.1[012]$ ]]
}

# candidates: names of Pythons, the preferred first; CANN's packages belong to python3, by custom
candidates() {
    if has_cann; then
        echo python3 python python3.11 python3.10 python3.12
    else
        echo python3.11 python3.10 python3.12 python3 python
    fi
}

# find_python: sets BASE_PYTHON
find_python() {
    local candidate version found=""
    if [ -n "${PYTHON:-}" ]; then
        version="$(python_version "$PYTHON")"
        [ -n "$version" ] || fail "PYTHON=$PYTHON does not run; set PYTHON to Python $VERSIONS"
        is_supported "$version" || fail "PYTHON=$PYTHON is Python $version; set PYTHON to Python $VERSIONS"
        BASE_PYTHON="$PYTHON"
        return
    fi
    for candidate in $(candidates); do
        version="$(python_version "$candidate")"
        if is_supported "$version"; then
            BASE_PYTHON="$candidate"
            return
        fi
        [ -z "$version" ] || found="${found:-, whose $candidate is Python $version}"
    done
    fail "no Python $VERSIONS on PATH$found; install one (uv python install 3.12; conda create -n thor python=3.12;" \
        "apt-get install python3.12 python3.12-venv), or set PYTHON to it"
}

# find_any_python: sets ANY_PYTHON, the environment's where there is one, for what needs no package
find_any_python() {
    ANY_PYTHON="$VENV/bin/python"
    if ! is_supported "$(python_version "$ANY_PYTHON")"; then
        find_python
        ANY_PYTHON="$BASE_PYTHON"
    fi
}

# What the environment was made from; a change of it makes the environment out of date.
fingerprint() {
    cat "$ROOT/setup.py" "$ROOT"/thor/backends/native/* | cksum
    echo "$ROOT"
    ! has_cann || echo "sees CANN's packages"
}

is_ready() {
    is_supported "$(python_version "$VENV/bin/python")" &&
        [ "$(cat "$VENV/.ready-$1" 2>/dev/null)" = "$(fingerprint)" ]
}

# set_up EXTRAS: makes $VENV hold this package with "zoo" or "zoo,test", unless it already does
set_up() {
    use_cann
    use_cuda
    if [ "$VENV" = none ]; then
        find_python
        RUN_PYTHON="$BASE_PYTHON"
        "$RUN_PYTHON" -c 'import mindspore' 2>/dev/null ||
            fail "VENV=none, but $RUN_PYTHON cannot import mindspore; install it there, or leave VENV out"
        return
    fi
    RUN_PYTHON="$VENV/bin/python"
    is_ready "$1" && return
    find_python
    mkdir -p "$(dirname "$VENV")"
    exec 9>"$VENV.lock"
    if command -v flock >/dev/null; then
        flock 9 # another set-up may be under way
    fi
    if ! is_ready "$1"; then
        install_environment "$1"
    fi
    exec 9>&-
}

install_environment() {
    local wanted log="$VENV/install.log"
    wanted="$(python_version "$BASE_PYTHON")"
    echo "setting up $VENV with Python $wanted; this is done once and takes a few minutes" >&2
    if [ "$(python_version "$VENV/bin/python")" != "$wanted" ] || { has_cann && ! sees_system "$VENV"; }; then
        "$BASE_PYTHON" -m venv --clear $(has_cann && echo --system-site-packages) "$VENV" >&2 9>&- ||
            fail "$BASE_PYTHON cannot make a virtual environment; on Debian apt-get install python3-venv"
    fi
    rm -f "$VENV"/.ready-*
    (
        cd "$ROOT"
        "$VENV/bin/python" -m pip install --quiet --no-input --editable ".[$1]"
    ) >"$log" 2>&1 9>&- || {
        cat "$log" >&2
        fail "pip could not install the package; its messages are above and in $log"
    }
    fingerprint >"$VENV/.ready-zoo"
    fingerprint >"$VENV/.ready-$1"
}

# read_words ARGUMENT...: sets WORDS to the module to run and its words, as models/launch/forms.py reads the arguments of
# the calling script, whose usage is USAGE
read_words() {
    local script="${0##*/}"
    print_usage_if_asked "$@"
    find_any_python
    mapfile -d '' -t WORDS < <("$ANY_PYTHON" "$ROOT/models/launch/forms.py" "${script%.sh}" "$@")
    wait $! || case $? in
    2) usage_error ;;
    *) exit 1 ;;
    esac
}

# run_module MODULE ARGUMENT...: the last command of a script; in the repository, where Python finds the zoo, which is
# not installed
run_module() {
    cd "$ROOT"
    exec "$RUN_PYTHON" -m "$@"
}
