"""How gradients and parameters move between workers. Stage: beneath plan and executors.

| module    | what it does                                                                           |
|-----------|----------------------------------------------------------------------------------------|
| `blocks`  | shared memory without a name                                                            |
| `channel` | messages and file descriptors between a process and one that it started                 |
| `clock`   | how far rank 0's clock is ahead                                                        |
| `mpi`     | ranks of an MPI job, as far as training needs them                                      |
| `tree`    | who has which rows and shards, and the one order in which the shards' sums are added     |
"""
