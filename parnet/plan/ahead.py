"""Which step asks for the rows of the next batch while it computes. Stage: plan. Pure.

Must not know: kernels' code, executors.
"""

from __future__ import annotations

from dataclasses import replace

from ..kernels.step import COLUMNS, DEPTH, EACH, NARROW, NOTHING_ASKED, PANEL, ROWS_SHARED, Step

#: the product's weights and two batches must stay in a core's own cache of 1 MiB, beside what else a step touches: the
#: 784-200-100-10 network gained nothing on one thread (814 KiB: 6 us less in the gather step, 9 more in the product) and
#: 2 to 3 % on two, whose parts have half of the weights each
MOST_BYTES = 640 * 1024
#: of a block of the product's sums, if it asks. In blocks of 98, 784-100-10 at batch 32 takes 2.20 us a sample on two
#: threads, 2.26 in blocks of 64, 2.31 if nobody asks; a second line asked for by each tile cost as much as blocks of 98
FEWEST_TERMS = 80
#: rows of a tile, at most
TILE_ROWS = 8
SIZES = {"gather.uint8": 1, "gather.float32": 4, "gather.float64": 8}


def ask_ahead(steps: tuple[Step, ...], batch: int, threads: int, size: int = 4) -> tuple[Step, ...]:
    """The steps, the first product of the forward pass asking for what the first gather step will read next, if each part
    has a tile for each row that it asks for. Sums are made in smaller blocks where that takes it: on two threads of the
    784-100-10 network at batch 32, whose parts have a panel each.

    Args:
        threads: that share the weights of a product cut by columns. size: bytes of a weight.
    """
    gather, index = steps[0], next((i for i, step in enumerate(steps) if step.kernel == "product.forward"), None)
    *kept, _ = gather.operands
    _, width, _, _, cut, place = kept
    if index is None or cut not in (COLUMNS, ROWS_SHARED):
        return steps
    product, number = steps[index], SIZES[gather.kernel]
    *own, depth, columns, share = product.operands[: -len(NOTHING_ASKED)]
    weights = size * depth * columns // (threads if share == COLUMNS else 1)
    cut = EACH if gather.share == EACH else cut
    asked, rows = (batch // threads if cut == ROWS_SHARED else batch), (batch if share == COLUMNS else batch // threads)
    panels = (columns // PANEL + (columns % PANEL > NARROW)) // (threads if share == COLUMNS else 1)
    tiles = panels * -(-rows // TILE_ROWS)
    blocks = -(-asked // tiles) if tiles else depth
    block = min(DEPTH, depth // max(1, blocks))
    if weights + 2 * batch * width * number > MOST_BYTES or block < FEWEST_TERMS:
        return steps
    asking = replace(product, operands=(*own, depth, columns, share, number, width, cut, place, block))
    return (replace(gather, operands=(*kept, 0)), *steps[1:index], asking, *steps[index + 1 :])
