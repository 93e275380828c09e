"""Traces of MPI ranks: one file of all, in rank 0's time, and the same training."""

from __future__ import annotations

import pytest
from nets import digest
from ranks import needs_mpi, run_ranks
from server_cases import BATCH as SIZE
from server_cases import EPOCHS, ROWS, fitted
from test_trace_shards import rows_of

from parnet.executors.tapes import RESUME, SEND, WAIT_RANKS
from parnet.io.trace_file import WORKERS, read_trace
from parnet.kernels.target import is_x86
from parnet.strategy import Serial

pytestmark = [*needs_mpi, pytest.mark.skipif(not is_x86(), reason="no cycle counter that programs may read")]
SHARDS, BATCHES = 4, -(-ROWS // SIZE)

TRAINING = """
import parnet as pn
from server_cases import data, digest, fitted
strategy = pn.strategy.MPI(shards=4)
net, _ = fitted(strategy, trace="t.json")
predicted = net.predict(data()[0], batch_size=16, strategy=strategy, trace="p.json")
ranks = strategy.ranks
assert ranks.clock_ahead() == 0
ahead = ranks.asked_clock(list(range(1, ranks.size)))
if ranks.leads:
    print(digest(net))
else:
    assert abs(ahead) < 1, ahead  # of one machine: the answer may be late, but not by a second
"""


@pytest.fixture(scope="module", params=[2, 3])
def traced(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    out = run_ranks(folder, TRAINING, request.param)
    return request.param, folder, out.split()[-1]


def test_one_file_has_every_shard_of_every_rank_once_a_batch(traced):
    ranks, folder, _ = traced
    timeline = read_trace(folder / "t.json")
    assert timeline.processes == {1: "parnet"} | {WORKERS + rank: f"rank {rank}" for rank in range(ranks)}
    plan: list = []
    for rank in range(ranks):
        batches = rows_of(timeline)[WORKERS + rank, 1]
        assert len(batches) == EPOCHS * BATCHES
        own = set(range(SHARDS * rank // ranks, SHARDS * (rank + 1) // ranks))
        for shard in own:
            steps = [(p.name, p.category) for p in batches[0][1] if p.shard == shard]
            plan = plan or steps
            assert steps == plan and len(steps) > 20
        for _, inner in batches[: BATCHES - 1]:  # the last has one row
            assert {p.shard for p in inner} == own | {-1}
            kinds = [p.category for p in inner]
            waits = [kind for kind in kinds if kind in (WAIT_RANKS, RESUME)]  # on a busy machine a rank resumes later
            assert 1 <= len(waits) == len(set(waits)) and kinds.count(SEND) == 4  # two are statistics


def test_spans_of_ranks_fill_their_batch_and_batches_of_all_lie_at_the_same_time(traced):
    _, folder, _ = traced
    rows = rows_of(read_trace(folder / "t.json"))
    for batches in rows.values():
        for whole, inner in batches:
            now = whole.begun
            for piece in inner:
                assert abs(piece.begun - now) < 0.002
                now = piece.begun + piece.took
            assert abs(now - whole.begun - whole.took) < 0.002
    for together in zip(*rows.values(), strict=True):  # they meet in each batch
        assert max(w.begun for w, _ in together) < min(w.begun + w.took for w, _ in together)


def test_waits_say_for_which_rank(traced):
    timeline = read_trace(traced[1] / "t.json")
    names = {p.name for p in timeline.slices if p.category in (WAIT_RANKS, RESUME)}
    assert any(name.startswith("wait for rank ") for name in names)


def test_training_is_that_without_a_trace_and_prediction_leaves_one_too(traced):
    _, folder, weights = traced
    assert weights == digest(fitted(Serial(SHARDS))[0])
    batches = rows_of(read_trace(folder / "p.json"))[WORKERS, 1]
    assert [whole.name for whole, _ in batches] == [f"predict batch {k + 1}" for k in range(BATCHES)]
    assert all(inner[-1].name == "gather outputs" for _, inner in batches)


def test_a_place_that_cannot_be_is_refused_by_all_ranks(tmp_path):
    text = "from server_cases import fitted\nimport parnet as pn\nfitted(pn.strategy.MPI(shards=2), trace='no/t.json')\n"
    said = run_ranks(tmp_path, text, 2, code=1)
    assert "fit: trace" in said
