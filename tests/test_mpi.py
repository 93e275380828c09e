"""Training on real MPI ranks: the bits of one process, rank 0 in the lead, failures that end the job, resuming."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import rank_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_cases import SMALL, small, weights
from ranks import Job, needs_mpi, open_mpi, run_ranks

import parnet as pn
from parnet.comm.tree import additions
from parnet.executors.rank_program import GRAIN, Ranges

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# -- who adds up what: no ranks needed ------------------------------------------------------------


@quick
@given(st.integers(1, 6), st.integers(0, 20), st.integers(0, 700))
def test_pieces_that_are_sent_are_added_up_to_the_sum_of_all_shards(size, more, numbers):
    shards = size + more
    values = np.random.default_rng(numbers).integers(-99, 99, (shards, numbers))
    all_ranges = [Ranges(rank, size, shards, numbers) for rank in range(size)]
    sent = []
    for ranges in all_ranges:
        sums = [[values[a:b, ranges.ends[r] : ranges.ends[r + 1]].sum(axis=0) for a, b in ranges.own] for r in range(size)]
        out = np.concatenate([piece for row in sums for piece in row] or [np.zeros(0, int)])
        counts, places = ranges.sent
        assert sum(counts) == len(out)
        sent.append([out[place : place + count] for count, place in zip(counts, places, strict=True)])
    total = []
    for rank, ranges in enumerate(all_ranges):
        into = np.concatenate([sent[source][rank] for source in range(size)])
        assert [len(sent[source][rank]) for source in range(size)] == ranges.received[0]
        if ranges.length(rank):
            pieces = into.reshape(len(ranges.pieces), -1)
            for target, source in additions(ranges.pieces, shards):
                pieces[target] += pieces[source]
            total.append(pieces[0])
    assert np.array_equal(np.concatenate(total or [np.zeros(0, int)]), values.sum(axis=0))
    assert all(end % GRAIN == 0 or end == numbers for end in all_ranges[0].ends)


# -- real ranks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serial():
    return json.loads(json.dumps(rank_cases.results(lambda shards: pn.strategy.Serial(shards=shards))))


class TestRanks:
    pytestmark = [*needs_mpi, pytest.mark.usefixtures("nothing_left")]

    @pytest.mark.parametrize("size", [1, 2, 3, 4])
    def test_any_number_of_ranks_has_the_bits_of_one_process(self, size, serial, tmp_path):
        script = Path(rank_cases.__file__).read_text(encoding="utf-8")
        out = tmp_path / "results.json"
        code, said, err = Job(tmp_path, script, size, words=(str(out),)).end()
        assert code == 0, err[-3000:]
        assert json.loads(out.read_text()) == serial
        assert said.count("Epoch 1/3") == len(rank_cases.CASES), "rank 0 alone shows progress"

    def test_threads_within_ranks_change_no_bit(self, serial, tmp_path):
        text = Path(rank_cases.__file__).read_text(encoding="utf-8")
        text = text.replace("pn.strategy.MPI(shards=shards)", "Two(shards=shards)").replace(
            'if __name__ == "__main__":',
            "class Two(pn.strategy.MPI):\n    def threads_for(self, estimate_us):\n        return 2\n\n\n"
            'if __name__ == "__main__":',
        )
        out = tmp_path / "results.json"
        code, _, err = Job(tmp_path, text, 2, words=(str(out),)).end()
        assert code == 0, err[-3000:]
        assert json.loads(out.read_text()) == serial

    def test_rank_0_leads_and_the_others_follow(self, tmp_path):
        text = (
            SMALL
            + """
    if ranks.rank == 1:  # other seeds and weights: those of rank 0 count
        model = rank_cases.dense()
        model.seed = 5
        model.compile(pn.optimizers.Adam(0.5), "sparse_categorical_crossentropy", ["accuracy"], seed=9)
        model.set_weights([w + 1 for w in model.get_weights()])

    class Spy(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(f"<spy {ranks.rank} {epoch}>", flush=True)
            logs["own"] = 3.5
            self.model.optimizer.learning_rate = 0.02 if epoch else 0.005
            self.model.stop_training = epoch == 2
            if epoch == 1:
                self.model.set_weights([w * 0.5 for w in self.model.get_weights()])

    history = model.fit(x, y, 32, 9, callbacks=[Spy(), pn.callbacks.ModelCheckpoint("{epoch}.parnet")], strategy="mpi",
                        verbose=2)
    told = ranks.all_objects((rank_cases.digest(*model.get_weights()), history.history, model.optimizer.learning_rate))
    assert told[0] == told[1] and len(history.epoch) == 3 and history.history["own"] == [3.5] * 3
    assert history.timing.comm_s > 0 and history.timing.wait_s > 0
    assert history.timing.comm_bytes > 0 and 0 < history.timing.update_s < history.timing.compute_s
    if ranks.leads:
        model.save("last.parnet")
"""
        )
        out = run_ranks(tmp_path, text, 2)
        assert [out.count(f"<spy 0 {epoch}>") for epoch in range(4)] == [1, 1, 1, 0] and "<spy 1" not in out
        assert out.count("Epoch 3/9") == 1

        class Same(pn.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.optimizer.learning_rate = 0.02 if epoch else 0.005
                if epoch == 1:
                    self.model.set_weights([w * 0.5 for w in self.model.get_weights()])

        alone = small(epochs=3, callbacks=[Same()], strategy=pn.strategy.Serial(shards=2))
        assert weights(tmp_path / "last.parnet") == [w.tobytes() for w in alone.get_weights()]
        assert weights(tmp_path / "3.parnet") == weights(tmp_path / "last.parnet")

    def test_wrong_use_is_told_on_every_rank(self, tmp_path):
        text = (
            SMALL
            + """
    from parnet.errors import HyperparameterError, RankError
    def refusal(kind, call):
        try:
            call()
        except kind as error:
            return str(error)
    rows = 90 if ranks.rank == 1 else 97
    said = refusal(RankError, lambda: model.fit(x[:rows], y[:rows], strategy=strategy))
    assert "the same number of rows on all ranks, received 97 on rank 0 and 90 on rank 1" in said, said
    said = refusal(HyperparameterError, lambda: pn.strategy.MPI(shards=1))
    assert "expected at least 2, one for each rank, received 1" in said, said
    from mpi4py import MPI
    for comm in (5, "world", MPI.COMM_NULL):
        said = refusal(HyperparameterError, lambda: pn.strategy.MPI(comm))
        assert "MPI(comm): expected a communicator of mpi4py, received" in said, said
    assert "MPI(threads)" in refusal(HyperparameterError, lambda: pn.strategy.MPI(threads=0))
    for color in (ranks.rank, 0):  # the handle of the first may be that of the second
        comm = MPI.COMM_WORLD.Split(color)
        assert pn.strategy.MPI(comm).ranks.size == comm.size
        comm.Free()

    class Fails(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ValueError("no such file")
    said = refusal(ValueError if ranks.leads else RankError, lambda: model.fit(x, y, callbacks=[Fails()], strategy=strategy))
    assert said == "no such file" if ranks.leads else "rank 0 failed: ValueError: no such file", said
    model.compile(pn.optimizers.SGD(1e30), "sparse_categorical_crossentropy")
    from parnet.errors import NonFiniteLossError
    said = refusal(NonFiniteLossError, lambda: model.fit(x * 1e30, y, strategy=strategy))
    assert "the loss became" in said, said
    model.compile(pn.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(x, y, strategy=pn.strategy.MPI(shards=2), verbose=0)
    print("all refused")
"""
        )
        assert run_ranks(tmp_path, text, 2).count("all refused") == 2

    def test_an_exception_on_one_rank_ends_the_job(self, tmp_path):
        text = (
            SMALL
            + """
    from parnet.comm.mpi import Ranks
    if ranks.rank == 1:
        swap, count = Ranks.swap, []
        def failing(*arguments):
            count.append(1)
            if len(count) == 5:
                raise OSError("the disk is gone")
            swap(*arguments)
        Ranks.swap = failing
    model.fit(x, y, 32, 50, strategy=strategy, verbose=0)
"""
        )
        assert "OSError: the disk is gone" in run_ranks(tmp_path, text, 2, code=1, limit_s=60)

    LONG = (
        SMALL
        + """
    import os, pathlib, signal, time
    class Note(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                pathlib.Path("third").touch()
    pathlib.Path(f"pid{ranks.rank}").write_text(str(os.getpid()))
    saved = pn.callbacks.ModelCheckpoint("checkpoint.parnet")
    try:
        model.fit(x, y, 32, 1_000_000, callbacks=[saved, Note()], strategy=strategy, verbose=0)
    finally:
        told = ranks.all_objects((model.optimizer.iterations, rank_cases.digest(*model.get_weights())))
        assert told[0] == told[1], told
        if ranks.leads:
            pathlib.Path("saving").touch()
            time.sleep(0.5)
            model.save("stopped.parnet")
"""
    )

    def test_ctrl_c_stops_all_ranks_after_the_same_step(self, tmp_path):
        job = Job(tmp_path, self.LONG, 2)
        job.wait_for(tmp_path / "third")
        os.killpg(job.process.pid, signal.SIGINT)
        code, _, err = job.end(60)
        assert code == 130 and "AssertionError" not in err, err
        assert pn.load_model(tmp_path / "stopped.parnet").optimizer.iterations >= 16

    def test_ctrl_c_that_comes_late_to_one_rank_counts_once(self, tmp_path):
        job = Job(tmp_path, self.LONG, 2)
        job.wait_for(tmp_path / "third")
        os.kill(int((tmp_path / "pid1").read_text()), signal.SIGUSR1)
        job.wait_for(tmp_path / "saving")
        os.kill(int((tmp_path / "pid0").read_text()), signal.SIGUSR1)
        _, _, err = job.end(60)
        assert "AssertionError" not in err, err
        assert pn.load_model(tmp_path / "stopped.parnet").optimizer.iterations >= 16

    def test_a_killed_rank_ends_the_job_and_other_ranks_resume_from_the_checkpoint(self, tmp_path):
        job = Job(tmp_path, self.LONG, 2)
        job.wait_for(tmp_path / "third")
        os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
        code, _, _ = job.end(60)
        assert code not in (0, 130)
        done = pn.load_model(tmp_path / "checkpoint.parnet").optimizer.iterations // 4
        text = (
            SMALL
            + f"""
    model = pn.load_model("checkpoint.parnet")
    model.fit(x, y, 32, {done + 2}, initial_epoch={done}, strategy=strategy, verbose=0)
    if ranks.leads:
        model.save("resumed.parnet")
"""
        )
        run_ranks(tmp_path, text, 3)
        undisturbed = small(epochs=done + 2)
        assert weights(tmp_path / "resumed.parnet") == [w.tobytes() for w in undisturbed.get_weights()]

    @pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on without a rank")
    @pytest.mark.parametrize("call, number", [("gather_words", 6), ("swap", 6), ("gather_rows", 14)])
    def test_survivors_of_a_killed_rank_go_on_with_the_bits_of_an_undisturbed_run(self, call, number, tmp_path):
        text = (
            SMALL
            + f"""
    import os, signal, warnings
    from parnet.comm.mpi import Ranks
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    if ranks.rank == 1:
        method, count = Ranks.{call}, []
        def dying(*arguments):
            count.append(1)
            if len(count) == {number}:
                os.kill(os.getpid(), signal.SIGKILL)
            method(*arguments)
        Ranks.{call} = dying
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        history = model.fit(x, y, 32, 4, strategy=strategy, verbose=0)
    if ranks.leads:
        print("<", told[0].message, ">")
        print("<losses", history.history["loss"], ">")
        model.save("left.parnet")
"""
        )
        out = run_ranks(tmp_path, text, 3, "--ulfm")
        assert re.search(r"< MPI: rank 1 of 3 is gone; 2 go on with all shards, from batch \d >", out)
        undisturbed = small()
        assert f"<losses {undisturbed.history.history['loss']} >" in out
        assert weights(tmp_path / "left.parnet") == [w.tobytes() for w in undisturbed.get_weights()]

    def test_shrinking_is_refused_where_mpi_cannot(self, tmp_path):
        text = (
            SMALL
            + """
    from parnet.errors import ResourceError
    try:
        pn.strategy.MPI(on_failure="shrink")
    except ResourceError as error:
        assert "start with parnet launch --ulfm and Open MPI" in str(error)
        print("refused")
"""
        )
        assert run_ranks(tmp_path, text, 2).count("refused") == 2
