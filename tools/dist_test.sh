#!/usr/bin/env bash
# Tests in several processes: see the text below.
set -euo pipefail

if [ $# -lt 3 ] || [[ $1 == -* ]]; then
    cat >&2 <<'TEXT'
usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]

Tests in GPUS processes, each with its share of the images; the metrics are over all images.
Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT as for tools/dist_train.sh.

  tools/dist_test.sh CONFIG work_dirs/resnet18/best.pth 4
TEXT
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MAX_RESTARTS=0 exec "$here/dist_run.sh" "$gpus" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
