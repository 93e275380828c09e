"""The parameter server's decisions, without its input and output. Stage: beneath executors, beside comm.

| module     | what it does                                                              |
|------------|---------------------------------------------------------------------------|
| `messages` | what happens to a server, and what it answers                             |
| `rules`    | the modes: when a worker may begin its next step                          |
| `work`     | who computes which rows                                                   |
| `machine`  | `Server`: event in, list of replies out; what it counted for the report   |
"""
