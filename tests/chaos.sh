#!/usr/bin/env bash
# Kills, pauses and failing disks under load, over the real binaries; then a checker reads the log out of
# the database and judges what everybody saw. tests/chaos/README.md says how to read it.
#
#   tests/chaos.sh [short] [--seed N]   what every change runs, about two minutes
#   tests/chaos.sh long [--seed N]      more of everything, under an hour
#   tests/chaos.sh mutants [NAME…]      servers broken on purpose: each must be caught, by name
#   tests/chaos.sh selftest             the checker itself: mutated histories must be rejected
#   tests/chaos.sh check FOLDER         judges an earlier run again
set -euo pipefail
cd "$(dirname "$0")/.."

form=short
case "${1:-}" in
short | long | mutants | selftest | check)
    form=$1
    shift
    ;;
esac

target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/chaos
mkdir -p "$tools"
export PYTHONPYCACHEPREFIX=$tools/pycache

# command and package
need() {
    command -v "$1" >/dev/null && return
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2"
}

need python3 python3
python3 -c 'import ensurepip' 2>/dev/null || need python3-venv-is-missing python3-venv
[ -x "$tools/venv/bin/python3" ] || python3 -m venv "$tools/venv"
python=$tools/venv/bin/python3
websockets=17.4
"$python" -c "import websockets as w; assert w.__version__ == '$websockets'" 2>/dev/null ||
    "$python" -m pip install --quiet "websockets==$websockets"

case $form in
selftest)
    exec "$python" -m unittest discover --start-directory tests/chaos --pattern 'test_*.py' "$@"
    ;;
check)
    exec "$python" tests/chaos/check.py "$@"
    ;;
esac

seed=
others=()
while [ $# -gt 0 ]; do
    case $1 in
    --seed)
        seed=$2
        shift
        ;;
    *) others+=("$1") ;;
    esac
    shift
done
[ -n "$seed" ] || seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
echo "chaos: $form, --seed $seed"

need strace strace
# Built as the other tests build them, so that nothing is built twice.
cargo build --quiet --locked --workspace --bins --example embed
if [ "$form" = mutants ]; then
    # Of its own: the other binaries must not have mutants in them.
    cargo build --quiet --locked -p taskwatch-task-api --features mutants --target-dir "$tools/mutants"
    exec "$python" tests/chaos/mutants.py --seed "$seed" --binaries "$target/debug" \
        --mutants "$tools/mutants/debug" --report "$tools/report-mutants" "${others[@]}"
fi
status=0
"$python" tests/chaos/run.py "$form" --seed "$seed" --binaries "$target/debug" \
    --report "$tools/report-$form" "${others[@]}" || status=$?
if [ "$status" -ne 0 ]; then
    echo "chaos: failed; the histories are in $tools/report-$form"
    echo "chaos: again with: tests/chaos.sh $form --seed $seed"
else
    rm -rf "$tools/report-$form"
fi
exit "$status"
