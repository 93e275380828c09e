"""Ranks that stop, are late, leave early or do something else than the others: no job hangs without a word."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from rank_cases import SMALL, small, weights
from ranks import LAUNCHER, needs_mpi, open_mpi, run_ranks

import parnet
from parnet.cli import main, unseen
from parnet.comm.process import Limits

pytestmark = [*needs_mpi, pytest.mark.usefixtures("nothing_left")]

#: a rank does something at its n-th exchange of gradients
AT = """
    import os, signal, subprocess, time
    from parnet.comm.mpi import Ranks
    strategy = pn.strategy.MPI(shards=4, stall_warning_s=1, stall_limit_s={limit_s}, on_failure={how!r})
    def act():
        {act}
    if ranks.rank == {who}:
        swap, count = Ranks.swap, []
        def acting(*arguments):
            count.append(1)
            if len(count) == {number}:
                act()
            swap(*arguments)
        Ranks.swap = acting
"""
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"
#: stops, and is let go on by a child that outlives the wait
PAUSE = "subprocess.Popen(['sh', '-c', f'sleep 2.5; kill -CONT {os.getpid()}']); " + STOP
TRAIN = """
    saved = pn.callbacks.ModelCheckpoint("checkpoint.parnet")
    model.fit(x, y, 32, 4, callbacks=[saved], strategy=strategy, verbose=0)
    if ranks.leads:
        model.save("last.parnet")
"""
NO_PROC = """
    from parnet.comm.process import Address
    Address.look = lambda self: None
"""


def script(act, who, number=6, limit_s=2, how="abort"):
    return SMALL + AT.format(act=act, who=who, number=number, limit_s=limit_s, how=how)


@pytest.mark.parametrize("who, more", [(0, ""), (2, ""), (1, NO_PROC)], ids=["rank 0", "rank 2", "without /proc"])
def test_a_stopped_rank_is_named_and_ends_the_job(who, more, tmp_path):
    out = run_ranks(tmp_path, script(STOP, who, limit_s=3 if more else 2) + more + TRAIN, 3, code=1, limit_s=60)
    state = "" if more else ": it is stopped, by SIGSTOP or Ctrl-Z; SIGCONT lets it go on"
    rank = rf"rank {who} \(process \d+ on \S+\) has given no sign of life for \d s{re.escape(state)}"
    assert len(re.findall(rf"parnet: MPI: {rank}; others wait for it in exchange \d+, gradients of a batch", out)) == 1
    assert len(re.findall(rf"parnet.errors.RankError: MPI: {rank}; the job ends", out)) == 1
    assert weights(tmp_path / "checkpoint.parnet") == [w.tobytes() for w in small(epochs=1).get_weights()]


def test_a_rank_that_is_stopped_before_training_ends_the_job(tmp_path):
    stop = f"    if ranks.rank == 1:\n        {STOP}\n"
    out = run_ranks(tmp_path, script("pass", 9) + stop + TRAIN, 2, code=1, limit_s=60)
    assert re.search(r"RankError: MPI: rank 1 .* no sign of life for \d s: it is stopped", out)


def test_a_rank_that_is_stopped_while_another_asks_its_time_ends_the_job(tmp_path):
    ask = f"    import parnet.comm.mpi\n    if not ranks.rank:\n        parnet.comm.mpi.seconds_ahead = lambda *_: {STOP}\n"
    ask += "    ranks.asked_clock([1])\n"
    out = run_ranks(tmp_path, script("pass", 9) + ask, 2, code=1, limit_s=60)
    assert re.search(
        r"rank 0 .* no sign of life for \d s: it is stopped.*; others wait for it in exchange \d+, the time", out
    )


def test_a_rank_that_goes_on_in_time_changes_no_bit(tmp_path):
    out = run_ranks(tmp_path, script(PAUSE, 1, limit_s=60) + TRAIN, 2, limit_s=60, both=True)
    assert re.search(r"rank 1 .* no sign of life for 1 s: it is stopped", out) and re.search(r"rank 1 .* is back", out)
    assert weights(tmp_path / "last.parnet") == [w.tobytes() for w in small().get_weights()]


def test_a_late_rank_is_waited_for(tmp_path):
    late = "    if ranks.rank == 0:\n        time.sleep(4)\n"
    out = run_ranks(tmp_path, script("pass", 9, limit_s=1.5) + late + TRAIN, 2, limit_s=60, both=True)
    assert re.search(r"rank 0 .* lives, but has done nothing for \d s; others wait for it in exchange", out)
    assert weights(tmp_path / "last.parnet") == [w.tobytes() for w in small().get_weights()]


@pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on without a rank")
def test_survivors_of_a_stopped_rank_go_on_with_the_bits_of_an_undisturbed_run(tmp_path):
    out = run_ranks(tmp_path, script(STOP, 1, how="shrink") + TRAIN, 3, "--ulfm", limit_s=60, both=True)
    assert "it is killed" in out and "MPI: rank 1 of 3 is gone; 2 go on with all shards" in out
    assert weights(tmp_path / "last.parnet") == [w.tobytes() for w in small().get_weights()]


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_leaves_early_ends_the_job(who, tmp_path):
    out = run_ranks(tmp_path, script("sys.exit(0)", who) + TRAIN, 2, code=1, limit_s=60)
    assert re.search(rf"RankError: MPI: rank {who} .* the meeting at the end of the script, while others .*gradients", out)


def test_a_rank_that_evaluates_alone_ends_the_job(tmp_path):
    alone = "    if ranks.leads:\n        model.evaluate(x, y, strategy=strategy)\n"
    out = run_ranks(tmp_path, SMALL + alone + TRAIN, 2, code=1, limit_s=60)
    assert "fit: expected the same call on all ranks, received evaluate on rank 0 and fit on rank 1" in out


def test_a_callback_cannot_do_what_all_ranks_must(tmp_path):
    text = """
    class Evaluates(pn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(x, y, strategy="threads", verbose=0)
            self.model.evaluate(x, y, strategy=strategy)
    model.fit(x, y, 32, 4, callbacks=[Evaluates()], strategy=strategy, verbose=0)
    """
    out = run_ranks(tmp_path, SMALL + text, 2, code=1, limit_s=60)
    assert "inside a callback, which rank 0 runs alone; call evaluate and predict there with strategy='threads'" in out


@pytest.mark.skipif(not open_mpi(), reason="tells its ranks by the variables of Open MPI")
def test_a_rank_that_is_stopped_while_it_starts_ends_the_job(tmp_path, monkeypatch, capfd):
    stop = "import os, signal\nif os.environ.get('OMPI_COMM_WORLD_RANK') == '1': os.kill(os.getpid(), signal.SIGSTOP)\n"
    (tmp_path / "sitecustomize.py").write_text(stop)
    (tmp_path / "script.py").write_text("print('ran')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(parnet.__file__).parents[1])]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(unseen, "LIMITS", Limits(1.0, 2.0))
    options = ["-n", "2", "--oversubscribe", "--threads", "1", "--launcher", LAUNCHER]
    code = main(["launch", *options, str(tmp_path / "script.py")])
    out, err = capfd.readouterr()
    assert code not in (0, 130) and "ran" not in out
    assert re.search(r"parnet.errors.RankError: MPI: rank of process \d+ has been stopped for 2 s", err)
