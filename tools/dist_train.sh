#!/usr/bin/env bash
# Trains in several processes: see the text below.
set -euo pipefail

usage() {
    cat >&2 <<'TEXT'
usage: tools/dist_train.sh CONFIG GPUS [--max-restarts N] [arguments of tools/train.py]

Trains in GPUS processes, one for each GPU; without CUDA, GPUS processes on the CPU. The batch size
of the config is that of one process.

  --max-restarts N  start all processes again, from the last checkpoint, up to N times when one of
                    them, or another machine, fails (default 0)

Several machines: run it on each, with the same arguments and these environment variables:
  NNODES            number of machines (default 1)
  NODE_RANK         number of this machine, 0 to NNODES-1; 0 writes the checkpoints (default 0)
  MASTER_ADDR       address of the machine with NODE_RANK=0
  PORT              a free port there; PORT+1 is used too (default 29500; on one machine any free)
Their clocks have to agree to within 10 seconds. A machine that failed, with --max-restarts on all,
joins the others again by the same command.

  tools/dist_train.sh configs/classification/resnet18_sample.py 4 --amp
  NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 4 --max-restarts 3
  NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 4 --max-restarts 3
TEXT
    exit 2
}

if [ $# -lt 2 ] || [[ $1 == -* ]]; then
    usage
fi
config=$1
gpus=$2
shift 2
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --max-restarts)
        [ $# -ge 2 ] || usage
        export MAX_RESTARTS=$2
        shift
        ;;
    --max-restarts=*) export MAX_RESTARTS=${1#*=} ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/dist_run.sh" "$gpus" \
    "$here/train.py" "$config" --launcher pytorch "${arguments[@]+"${arguments[@]}"}"
