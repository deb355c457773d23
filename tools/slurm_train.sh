#!/usr/bin/env bash
# Trains under Slurm: see the text below.
set -euo pipefail

if [ $# -lt 3 ] || [[ $1 == -* ]]; then
    cat >&2 <<'TEXT'
usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]

Trains under Slurm, one task for each GPU. Environment variables:
  GPUS           all GPUs of the job (default 8)
  GPUS_PER_NODE  GPUS of one machine (default 8, or GPUS if that is less)
  CPUS_PER_TASK  CPU cores of each task (default 5)
  SRUN_ARGS      more arguments of srun, divided at blanks
  PORT           a port that is free on the first machine (default: from the number of the job)

  GPUS=16 tools/slurm_train.sh PARTITION resnet configs/classification/resnet50_imagenet.py --amp
TEXT
    exit 2
fi
partition=$1
job_name=$2
config=$3
shift 3

gpus=${GPUS:-8}
export GPUS_PER_NODE=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
if ((gpus % GPUS_PER_NODE)); then
    echo "error: GPUS=$gpus is no multiple of GPUS_PER_NODE=$GPUS_PER_NODE." >&2
    exit 2
fi
cpus_per_task=${CPUS_PER_TASK:-5}
read -r -a srun_arguments <<<"${SRUN_ARGS:-}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cpus_per_task}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

# What each task does first: tell torch what Slurm calls by other names.
# shellcheck disable=SC2016  # expanded by the task
start='
set -euo pipefail
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts%%$'"'\\n'"'*}
export MASTER_PORT=${PORT:-$((20000 + SLURM_JOB_ID % 10000))}
export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
export LOCAL_WORLD_SIZE=$GPUS_PER_NODE
exec "$@"'

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec srun --partition="$partition" --job-name="$job_name" \
    --gres="gpu:$GPUS_PER_NODE" --ntasks="$gpus" --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="$cpus_per_task" --kill-on-bad-exit=1 \
    "${srun_arguments[@]+"${srun_arguments[@]}"}" \
    bash -c "$start" bash "${PYTHON:-python}" -u "$here/train.py" "$config" --launcher pytorch "$@"
