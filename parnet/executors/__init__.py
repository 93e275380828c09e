"""What runs a plan: `base.py` is the contract, one file an executor. Stage: executors. Must not know: models, training."""
