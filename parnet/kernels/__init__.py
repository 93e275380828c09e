"""Python compiled by Numba: everything that computes. Stage: kernels, beneath the layers. Must not know: layers,
plans, threads.

From the tile upwards: `target.py` (which processor), `intrinsics.py` (pointers, lanes, atomics), `tile.py` and `dot.py`
(register blocks), `share.py` (who owns what), `product.py` and the other kernels, `loop.py` (runs them), `declare.py` and
`library.py` (compile, cache, link). `step.py` and `control.py` are the plain data that the plan and the kernels share.

Letters: K and F input and output features, C features of a normalisation, rows the rows of a batch; d + name is the
gradient of name.
"""
