#!/usr/bin/env bash
# Runs a program in GPUS processes on this machine, or on each of NNODES machines: torchrun, with
# what it leaves to its users. tools/dist_train.sh and tools/dist_test.sh say how they call it.
#
# - Rank 0 is on the machine with NODE_RANK=0 (torchrun orders machines by their addresses).
# - SIGTERM and SIGINT reach every process once, which has TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds
#   to save its work; the exit code is then 143 or 130.
# - A machine that is lost and started again joins the others; any of them, not only the later ones.
set -uo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: tools/dist_run.sh GPUS PROGRAM.py [arguments of the program]
environment: NNODES, NODE_RANK, MASTER_ADDR, PORT, MAX_RESTARTS; see tools/dist_train.sh
TEXT
    exit 2
}

fail() {
    echo "error: $1" >&2
    exit 2
}

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]]; }

[ $# -ge 2 ] || usage
gpus=$1
shift
python=${PYTHON:-python}
nodes=${NNODES:-1}
restarts=${MAX_RESTARTS:-0}
export NODE_RANK=${NODE_RANK:-0} MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
for number in "$nodes" "$NODE_RANK" "$restarts" "${PORT:-0}"; do
    is_number "$number" ||
        fail "NNODES, NODE_RANK, PORT and --max-restarts are numbers, not '$number'."
done
{ is_number "$gpus" && [ "$gpus" -gt 0 ]; } ||
    fail "GPUS is the number of processes on this machine, at least 1, not '$gpus'."
[ "$NODE_RANK" -lt "$nodes" ] ||
    fail "NODE_RANK is $NODE_RANK, expected 0 to $((nodes - 1)) for NNODES=$nodes machines."

# The address that this machine has on the way to the first one; a datagram socket sends nothing.
local_address=127.0.0.1
if [ "$nodes" -gt 1 ]; then
    export PORT=${PORT:-29500}
    local_address=$("$python" -c '
import socket, sys
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect((sys.argv[1], 9))
print(probe.getsockname()[0])' "$MASTER_ADDR" 2>/dev/null) ||
        fail "MASTER_ADDR=$MASTER_ADDR cannot be reached from this machine; give the address of the machine with NODE_RANK=0."
    [[ $local_address != 127.* ]] ||
        fail "MASTER_ADDR=$MASTER_ADDR is this machine's own loopback address, which no other machine can reach; give the address in the network of the machine with NODE_RANK=0."
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cores=$(nproc 2>/dev/null || echo 1)
threads=$((cores / gpus))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
# The agents' own store outlives a round, with the addresses of processes that are gone in it.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

LAUNCH_FOLDER=$(mktemp -d) || exit 1
export LAUNCH_FOLDER NNODES=$nodes
trap 'rm -rf "$LAUNCH_FOLDER"' EXIT

# What each process does first: count its starts, and take the rank that NODE_RANK says.
# shellcheck disable=SC2016  # expanded by the process
start='
echo >> "$LAUNCH_FOLDER/starts.$LOCAL_RANK"
export TORCHELASTIC_RESTART_COUNT=$(($(wc -l < "$LAUNCH_FOLDER/starts.$LOCAL_RANK") - 1))
if [ "$NNODES" -gt 1 ]; then
    export RANK=$((NODE_RANK * LOCAL_WORLD_SIZE + LOCAL_RANK))
    export MASTER_ADDR=$FIRST_ADDRESS MASTER_PORT=$((PORT + 1))
fi
exec "$@"'

# torchrun connects once, so wait here for the first machine.
wait_for_first_machine() {
    [ "$NODE_RANK" -gt 0 ] || return 0
    local end=$((SECONDS + 3600))
    until timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$FIRST_ADDRESS" "$PORT" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || fail "no answer from $FIRST_ADDRESS:$PORT within an hour."
        [ -n "${waiting:-}" ] || echo "Waiting for the machine with NODE_RANK=0 at $FIRST_ADDRESS:$PORT"
        waiting=1
        [ -z "$received" ] || exit "$received"
        sleep 1
    done
    waiting=
}

received=
child=
forward() {
    # Once: torchrun stops waiting for its processes when it is asked twice.
    [ -z "$received" ] || return
    received=$2
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}
trap 'forward TERM 143' TERM
trap 'forward INT 130' INT

export FIRST_ADDRESS=$MASTER_ADDR
is_host=$([ "$NODE_RANK" -eq 0 ] && echo 1 || echo 0)
losses=0
while true; do
    wait_for_first_machine
    set -m # a process group of its own, so that Ctrl-C comes from here, and once
    "$python" "$here/torchrun.py" \
        --nnodes="$nodes" --nproc-per-node="$gpus" --max-restarts="$restarts" \
        --rdzv-backend=c10d --rdzv-endpoint="$FIRST_ADDRESS:${PORT:-0}" --rdzv-id=aicore \
        --rdzv-conf="is_host=$is_host,join_timeout=3600" --local-addr="$local_address" \
        --no-python bash -c "$start" bash "$python" -u "$@" </dev/null &
    child=$!
    set +m
    [ -z "$received" ] || kill "$child"
    # A signal ends `wait`, and torchrun has yet to wait for its processes.
    while true; do
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    child=
    [ -z "$received" ] || exit "$received"
    [ "$code" -ne 0 ] || exit 0
    # 75: the first machine is lost, see tools/torchrun.py.
    if [ "$code" -ne 75 ] || [ "$NODE_RANK" -eq 0 ] || [ "$losses" -ge "$restarts" ]; then
        exit "$code"
    fi
    losses=$((losses + 1))
    echo "The machine with NODE_RANK=0 is lost; starting again with it ($losses of $restarts)" >&2
done
