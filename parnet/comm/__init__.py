"""How gradients and parameters move between workers. Stage: beneath plan and executors.

| module | what it does                                                                          |
|--------|---------------------------------------------------------------------------------------|
| `tree` | who has which rows and shards, and the one order in which the shards' sums are added    |
"""
