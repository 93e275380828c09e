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

DIES_AT = """
    import os, signal
    from parnet.comm.mpi import Ranks
    def dies_at(method, number, only=lambda *arguments: True):
        original, count = getattr(Ranks, method), []
        def dying(*arguments):
            count.extend([1] * only(*arguments))
            if len(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)
        setattr(Ranks, method, dying)
"""
GO_ON = """
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    model.fit(x, y, 32, 4, strategy=strategy, verbose=0)
    if ranks.leads:
        model.save("left.parnet")
"""
TWO_DIE = """
    if ranks.rank == 1:
        dies_at("swap", 6)
    shrink = Ranks.shrink
    def shrinking(self):
        words = shrink(self)
        if self.size == {left} and rank == {second}:
            dies_at("broadcast", {call})
        return words
    Ranks.shrink, rank = shrinking, ranks.rank
"""


@pytest.mark.parametrize("call", [1, 3], ids=["weights", "slots"])
def test_another_rank_that_dies_while_weights_are_handed_on_changes_no_bit(call, tmp_path):
    text = SMALL + DIES_AT + TWO_DIE.format(left=3, second=3, call=call) + GO_ON
    out = run_ranks(tmp_path, text, 4, "--ulfm", limit_s=60, both=True)
    assert re.search(r"rank \d of 3 is gone; 2 go on with all shards", out)
    assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in small().get_weights()]


FARTHEST_DIES = """
    import time
    from parnet.comm.mpi import Died
    from parnet.executors.ranks import RanksExecutor
    batches, run_batch, me = [], RanksExecutor._run_batch, ranks.rank
    def running(self, program, batch, span):
        batches.append(batch)
        if len(batches) != 6 or program.plan.request.purpose != "train":
            return run_batch(self, program, batch, span)
        store, feed = program.store, self._feed
        vectors = store.parameters, store.state, store.slots, feed.sums, feed.losses
        before = [vector.copy() for vector in vectors]
        run_batch(self, program, batch, span)
        open(f"done {me}", "w").close()
        while not all(os.path.exists(f"done {rank}") for rank in range(3)):
            time.sleep(0.01)
        if me == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if me == 2:  # has gone one batch farther than the others when it hears of the death, and dies while it sends
            self._done += 1
            dies_at("broadcast", 3)
        else:
            for vector, old in zip(vectors, before):
                vector[:] = old
        raise Died("a rank has died")
    RanksExecutor._run_batch = running
"""


def test_weights_stay_whole_where_the_one_that_hands_them_on_dies(tmp_path):
    text = SMALL + DIES_AT + FARTHEST_DIES + GO_ON
    out = run_ranks(tmp_path, text, 3, "--ulfm", limit_s=60, both=True)
    assert re.search(r"1 goes on with all shards, from batch \d", out)
    assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in small().get_weights()]


DIES_WHILE_OTHERS_SHRINK = """
    class Comm:  # ends the rank before or behind a call of its communicator
        def __init__(self, comm):
            self.comm = comm
        def __getattr__(self, name):
            return getattr(self.comm, name)
        def Shrink(self):
            if "{when}" == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            self.comm.Shrink()
            os.kill(os.getpid(), signal.SIGKILL)
    if ranks.rank == 1:
        dies_at("swap", 6)
    if ranks.rank == {who}:
        ranks._comm = Comm(ranks._comm)
"""


@pytest.mark.parametrize("who, when", [(2, "before"), (3, "behind")])
def test_another_rank_that_dies_while_the_others_shrink_changes_no_bit(who, when, tmp_path):
    text = SMALL + DIES_AT + DIES_WHILE_OTHERS_SHRINK.format(who=who, when=when) + GO_ON
    out = run_ranks(tmp_path, text, 4, "--ulfm", limit_s=60, both=True)
    assert "2 go on with all shards" in out
    assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in small().get_weights()]


def test_ranks_of_which_one_has_heard_of_a_death_later_than_others_know_each_other(tmp_path):
    """It takes part in going on once more, with the numbers that it knows, when the others have taken new ones."""
    text = """
    if ranks.rank == 1:
        dies_at("swap", 6)
    knows, said = Ranks._knows_of_deaths, []
    def hears_late(self):
        if self._comm.Get_size() == 3 and not said:
            said.append(1)
            return True
        return knows(self)
    if ranks.rank == 2:
        Ranks._knows_of_deaths = hears_late
    shrink, me = Ranks.shrink, ranks.rank
    def shrinking(self):
        words = shrink(self)
        places = [address.pid for address in self.watch._addresses]
        print(f"<{me} is {self.rank} of {self.size}, {places[self.rank] == os.getpid()}, {self._left}>", flush=True)
        return words
    Ranks.shrink = shrinking
"""
    out = run_ranks(tmp_path, SMALL + DIES_AT + text + GO_ON, 4, "--ulfm", limit_s=60, both=True)
    for rank, place in ((0, 0), (2, 1), (3, 2)):
        assert re.findall(rf"<{rank} is .*>", out)[-1] == f"<{rank} is {place} of 3, True, [0, 2, 3]>"
    assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in small().get_weights()]


def test_predictions_of_a_batch_that_one_rank_has_and_another_has_not_are_made_again(tmp_path):
    text = """
    import time
    import numpy as np
    from parnet.comm.mpi import Died
    from parnet.executors.ranks import RanksExecutor
    gather, count, me = RanksExecutor._gather_outputs, [], ranks.rank
    def gathering(self, program, batch):
        gather(self, program, batch)
        count.append(batch)
        if len(count) == 2:
            open(f"done {me}", "w").close()
            while not all(os.path.exists(f"done {rank}") for rank in range(3)):
                time.sleep(0.01)
            if me == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if me == 0:  # hears of the death before it has the rows
                self._feed.out[0][batch * 32 :] = np.nan
                raise Died("a rank has died")
    RanksExecutor._gather_outputs = gathering
    found = model.predict(x, strategy=pn.strategy.MPI(shards=4, on_failure="shrink"))
    if ranks.leads:
        print(f"<{found.tobytes() == model.predict(x, strategy=pn.strategy.Serial(shards=4)).tobytes()}>")
"""
    out = run_ranks(tmp_path, SMALL + DIES_AT + text, 3, "--ulfm", limit_s=60, both=True)
    assert "2 go on with all shards, from batch 2" in out and "<True>" in out


def test_a_death_in_a_manual_loop_is_an_error(tmp_path):
    """What the lost rank has computed of the batch so far is gone with it."""
    text = """
    if ranks.rank == 1:
        dies_at("swap", 3)
    model.session.strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    loss_fn = pn.losses.SparseCategoricalCrossentropy()
    optimizer = pn.optimizers.SGD(model.parameters(), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        loss_fn(model(x[:32]), y[:32]).backward()
        optimizer.step()
"""
    out = run_ranks(tmp_path, SMALL + DIES_AT + text, 3, "--ulfm", code=1, limit_s=60)
    assert "MPI: a rank has died, and others wait for it in gradients of a batch" in out


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
