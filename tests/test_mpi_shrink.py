"""Deaths of ranks where Open MPI goes on after them: beyond a training's steps, and several."""

from __future__ import annotations

import re

import pytest
from rank_cases import SMALL, small, weights
from ranks import needs_mpi, open_mpi, run_ranks

pytestmark = [
    *needs_mpi,
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on without a rank"),
]

TWO_DIE = """
    import os, signal
    from parnet.comm.mpi import Ranks
    def dies_at(method, number):
        original, count = getattr(Ranks, method), []
        def dying(*arguments):
            count.append(1)
            if len(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)
        setattr(Ranks, method, dying)
    if ranks.rank == 1:
        dies_at("swap", 6)
    shrink = Ranks.shrink
    def shrinking(self):
        words = shrink(self)
        if self.size == {left} and rank == {second}:
            dies_at("broadcast", {call})
        return words
    Ranks.shrink, rank = shrinking, ranks.rank
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    model.fit(x, y, 32, 4, strategy=strategy, verbose=0)
    if ranks.leads:
        model.save("left.parnet")
"""


@pytest.mark.parametrize("call", [1, 3], ids=["weights", "slots"])
def test_another_rank_that_dies_while_weights_are_handed_on_changes_no_bit(call, tmp_path):
    out = run_ranks(tmp_path, SMALL + TWO_DIE.format(left=3, second=3, call=call), 4, "--ulfm", limit_s=60, both=True)
    assert re.search(r"rank \d of 3 is gone; 2 go on with all shards", out)
    assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in small().get_weights()]


def test_a_rank_that_dies_between_two_epochs_is_an_error_of_ours_on_the_others(tmp_path):
    text = """
    import os, signal
    class Note(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            os.kill(int(open("pid").read()), signal.SIGKILL)
    if ranks.rank == 1:
        open("pid", "w").write(str(os.getpid()))
    ranks.all_objects(None)
    model.fit(x, y, 32, 4, callbacks=[Note()], strategy=pn.strategy.MPI(shards=4, on_failure="shrink"), verbose=0)
"""
    out = run_ranks(tmp_path, SMALL + text, 3, "--ulfm", code=1, limit_s=60)
    assert "MPI: a rank has died, and others wait for it in" in out and "TypeError" not in out


def test_a_rank_that_dies_between_two_runs_is_an_error_of_ours_on_the_others(tmp_path):
    text = """
    import os, signal
    from parnet.errors import RankError
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    model.fit(x, y, 32, 1, strategy=strategy, verbose=0)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        model.evaluate(x, y, strategy=strategy)
    except RankError as error:
        print(f"<{error}>", flush=True)
        raise
"""
    out = run_ranks(tmp_path, SMALL + text, 3, "--ulfm", code=1, limit_s=60)
    words = "<MPI: a rank has died, and others wait for it in what all ranks tell; start again from the last checkpoint>"
    assert words in out
