"""How `parnet launch` ends: code 0 only where rank 0 came to the end of its script, and no wait for ranks that are gone."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from rank_cases import SMALL
from ranks import LAUNCHER, Job, needs_mpi, open_mpi, run_ranks

import parnet
from parnet.cli import launch, sweep, word
from parnet.cli.unseen import COMMAND, Unseen, unseen
from parnet.cli.verdict import BROKE_OFF, Ending, verdict
from parnet.comm.process import Limits

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and sockets without a file are Linux's")


@on_linux
def test_what_ranks_say_is_heard(monkeypatch):
    job = uuid.uuid4().hex
    word.tell(word.OVER)  # nobody listens
    monkeypatch.setenv(sweep.JOB, job)
    word.tell(word.OVER)
    ear = word.Ear(job)
    for said, over in ((None, False), (word.BEGUN, False), (word.BEGUN, False), (word.OVER, True)):
        if said:
            word.tell(said)
        ear.listen()
        assert (ear.begun, ear.over) == (said is not None, over)
    ear.close()


@on_linux
def test_only_ranks_are_looked_after_none_of_the_programs_that_scripts_start(tmp_path, monkeypatch):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__main__.py").write_text("import time\ntime.sleep(100)\n")
    job = uuid.uuid4().hex
    environ = os.environ | {sweep.JOB: job, "PYTHONPATH": str(tmp_path)}
    rank = subprocess.Popen([sys.executable, *COMMAND, "script.py"], env=environ)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", *COMMAND], env=environ)
    try:
        until = time.monotonic() + 60
        while not (unseen(job) and other.pid in sweep.ranks_of(job)) and time.monotonic() < until:
            time.sleep(0.01)
        monkeypatch.setattr(parnet.cli.unseen, "LIMITS", Limits(1.0, 3.0))
        watch = Unseen(job, 1)
        other.send_signal(signal.SIGSTOP)
        assert unseen(job) == [rank.pid] and not any(watch.hang(1.0, False) for _ in range(9))
        rank.send_signal(signal.SIGSTOP)
        while not unseen_stopped(rank.pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert [watch.hang(1.0, False) for _ in range(3)] == [False, False, True]
    finally:
        for process in (rank, other):
            process.kill()
            process.wait()


def unseen_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@on_linux
def test_the_end_of_patience_does_not_move_when_it_is_asked_for_again():
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    try:
        asked = launch._Asked(uuid.uuid4().hex, word.Ear(uuid.uuid4().hex), True)
        asked.job = job
        asked.end()
        until = asked.until
        time.sleep(0.01)
        asked.end()
        assert asked.until == until < time.monotonic() + sweep.GRACE_S
    finally:
        asked.ear.close()
        job.kill()
        job.wait()


@on_linux
@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_ranks_that_do_not_stop_after_sigterm_are_ended_later(number, ends, monkeypatch, capfd):
    """A supervisor sends it once; who presses Ctrl-C may do it again."""
    deaf = "import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print('on', flush=True); time.sleep(100)"
    job = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    monkeypatch.setattr(launch, "STOPPING_S", 0.3)
    name = uuid.uuid4().hex
    asked = launch._Asked(name, word.Ear(name), True)
    try:
        assert job.stdout is not None and job.stdout.readline() == b"on\n"
        asked.job = job
        monkeypatch.setenv(sweep.JOB, name)
        word.tell(word.BEGUN)
        asked(number, None)
        assert job.poll() is None and not asked.patience_is_over()
        time.sleep(0.4)
        assert not asked.patience_is_over()  # it may end by itself now
        if ends:
            assert job.wait(30) == -signal.SIGTERM
        else:
            assert job.poll() is None
        assert ("Ctrl-C again" in capfd.readouterr().err) is not ends
    finally:
        asked.ear.close()
        job.kill()
        job.communicate()


def test_the_guard_does_not_take_a_users_file_for_one_of_pythons(tmp_path, monkeypatch):
    for name in ("json", "signal", "pathlib"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    guard = sweep.Guard(uuid.uuid4().hex, set())
    guard._process.communicate(timeout=60)  # as when we are gone
    assert guard._process.returncode == 0


#: a launcher that does not end when its rank has; the path of Python comes before the rank's command
STUCK = """#!/bin/sh
[ "$1" = --version ] && exec echo "mpirun (Open MPI) 5.0.0"
while [ "$1" != "{python}" ]; do shift; done
"$@"
exec sleep 1000
"""


@on_linux
@pytest.mark.parametrize("said, code", [("BEGUN, OVER", 0), ("BEGUN,", 1)])
def test_a_launcher_that_does_not_end_after_its_ranks_is_ended(said, code, tmp_path, monkeypatch, capfd):
    (tmp_path / "mpi4py").mkdir()
    text = f"from parnet.cli.word import BEGUN, OVER, tell\nfor one in {said}:\n    tell(one)\n"
    (tmp_path / "mpi4py" / "__init__.py").touch()
    (tmp_path / "mpi4py" / "__main__.py").write_text(text)
    (tmp_path / "mpirun").write_text(STUCK.format(python=sys.executable))
    (tmp_path / "mpirun").chmod(0o755)
    (tmp_path / "script.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(parnet.__file__).parents[1])]))
    monkeypatch.setattr(parnet.cli.unseen, "LIMITS", Limits(1.0, 60.0))
    options = ["-n", "1", "--threads", "1", "--launcher", str(tmp_path / "mpirun")]
    assert parnet.cli.main(["launch", *options, str(tmp_path / "script.py")]) == code
    err = capfd.readouterr().err
    assert "MPI: the launcher has not ended for 1 s after its last rank; the job ends" in err
    assert ("rank 0 has not come to the end of its script" in err) == bool(code)


#: what is known of a job that is over -> exit code, and whether it is said that rank 0 has not come to its end
ENDINGS = [
    ("all was well", {"code": 0, "begun": True, "over": True}, 0, False),
    ("rank 0 killed, and the launcher goes on after deaths", {"code": 0, "begun": True}, 1, True),
    ("killed before all met", {"code": 0}, 1, True),
    ("on other machines, of which nothing is heard", {"code": 0, "all_here": False}, 0, False),
    ("some of them here, and rank 0 too", {"code": 0, "all_here": False, "begun": True, "over": True}, 0, False),
    ("some of them here, nothing of rank 0", {"code": 0, "all_here": False, "begun": True}, 1, True),
    ("an exception", {"code": 1, "begun": True}, 1, False),
    ("an exception behind rank 0's end", {"code": 3, "begun": True, "over": True}, 3, False),
    ("the launcher's own signal for a killed rank", {"code": 137, "begun": True}, 137, False),
    ("the launcher killed", {"code": -9, "begun": True}, 137, False),
    ("the launcher killed while it tidied up", {"code": -15, "begun": True, "over": True}, 143, False),
    ("Ctrl-C", {"code": 0, "begun": True, "over": True, "asked": True}, 130, False),
    ("Ctrl-C twice", {"code": -15, "begun": True, "asked": True}, 130, False),
    ("Ctrl-C before the scripts", {"code": 1, "asked": True}, 130, False),
    ("Ctrl-C of a job that hung", {"code": -15, "asked": True, "hung": True}, 130, False),
    ("ranks hung, ended by us", {"code": -15, "begun": True, "hung": True}, 143, False),
    ("ranks hung, the launcher says all was well", {"code": 0, "begun": True, "over": True, "hung": True}, 1, False),
    ("ranks hung, and says so before their end", {"code": 0, "begun": True, "hung": True}, 1, True),
    ("no rank left, all done", {"code": -15, "begun": True, "over": True, "hung": True, "alone": True}, 0, False),
    ("no rank left, rank 0 not done", {"code": -15, "begun": True, "hung": True, "alone": True}, 1, True),
    ("no rank ever came", {"code": 0, "hung": True}, 1, True),
    ("no rank ever came, the launcher was ended", {"code": -15, "hung": True}, 143, False),
]


@pytest.mark.parametrize("known, code, broke_off", [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS])
def test_the_exit_code_follows_from_what_is_known_of_the_job(known, code, broke_off):
    assert verdict(Ending(**known)) == (code, BROKE_OFF if broke_off else "")


def test_a_job_succeeds_only_where_rank_0_has_come_to_its_end_or_cannot_be_heard():
    """All that can be known, all together."""
    for code, *facts in itertools.product((0, 1, 137, -9), *[(False, True)] * 6):
        ending = Ending(code, *facts)
        if verdict(ending)[0] == 0:
            assert ending.over or not (ending.begun or ending.all_here)
            assert ending.code == 0 or (ending.alone and not ending.asked)


def test_a_rank_that_changes_its_name_is_still_there(monkeypatch):
    """As `setproctitle` does."""
    named = [{os.getpid(): "python"}]
    monkeypatch.setattr(parnet.cli.unseen, "all_ranks", lambda job: named[0])
    watch = Unseen("some job", 1)
    assert not watch.hang(1.0, True)
    named[0] = {}
    assert not any(watch.hang(10.0, True) for _ in range(9)) and not watch.alone


#: a launcher that tidies up for a while when its rank has ended, and has a code of its own
TIDY = """#!/bin/sh
[ "$1" = --version ] && exec echo "mpirun (Open MPI) 5.0.0"
while [ "$1" != "{python}" ]; do shift; done
"$@"
sleep 2.5
exit {code}
"""


@on_linux
@pytest.mark.parametrize("code", [0, 7, 9])
def test_the_launchers_own_code_is_kept_however_long_it_tidies_up(code, tmp_path, monkeypatch, capfd):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").touch()
    text = "from parnet.cli.word import BEGUN, OVER, tell\ntell(BEGUN)\ntell(OVER)\n"
    (tmp_path / "mpi4py" / "__main__.py").write_text(text)
    (tmp_path / "mpirun").write_text(TIDY.format(python=sys.executable, code=code))
    (tmp_path / "mpirun").chmod(0o755)
    (tmp_path / "script.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(parnet.__file__).parents[1])]))
    options = ["-n", "1", "--threads", "1", "--launcher", str(tmp_path / "mpirun")]
    assert parnet.cli.main(["launch", *options, str(tmp_path / "script.py")]) == code
    assert "RankError" not in capfd.readouterr().err


class TestJobs:
    pytestmark = [*needs_mpi, pytest.mark.usefixtures("nothing_left")]

    @pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on after deaths")
    @pytest.mark.parametrize("who, said", [("True", "rank 0 has not come to the end"), ("ranks.leads", "and rank 0 led")])
    def test_a_job_whose_rank_0_was_killed_before_its_end_has_failed(self, who, said, tmp_path):
        text = f"""
    import os, signal
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    model.fit(x, y, 32, 1, strategy=strategy, verbose=0)
    if {who}:
        os.kill(os.getpid(), signal.SIGKILL)
"""
        assert said in run_ranks(tmp_path, SMALL + text, 2, "--ulfm", code=1, limit_s=60)

    @pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on after deaths")
    def test_a_job_whose_ranks_were_killed_before_they_began_has_failed(self, tmp_path):
        site = tmp_path / "site"
        site.mkdir()
        kill = "import os, signal\nif 'OMPI_COMM_WORLD_RANK' in os.environ: os.kill(os.getpid(), signal.SIGKILL)"
        (site / "sitecustomize.py").write_text(kill)
        code, out, _ = Job(tmp_path, "print('ran')", 2, "--ulfm", more_path=site).end(60)
        assert code not in (0, 130) and "ran" not in out

    @pytest.mark.skipif(not open_mpi(), reason="only Open MPI goes on after deaths")
    def test_a_job_that_lost_another_rank_behind_its_training_has_succeeded(self, tmp_path):
        text = """
    import os, signal, time
    strategy = pn.strategy.MPI(shards=4, on_failure="shrink")
    model.fit(x, y, 32, 1, strategy=strategy, verbose=0)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    print("<saved>" if ranks.leads else "")
"""
        assert "<saved>" in run_ranks(tmp_path, SMALL + text, 3, "--ulfm", limit_s=60)

    #: rank 1 does something before Python itself has started
    BEFORE = "import os, time\nif os.environ.get('OMPI_COMM_WORLD_RANK') == '1':\n    "

    @pytest.mark.skipif(not open_mpi(), reason="tells its ranks by the variables of Open MPI")
    def test_a_rank_that_leaves_before_all_have_met_ends_the_job(self, tmp_path, monkeypatch, capfd):
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(self.BEFORE + "os._exit(0)")
        (tmp_path / "script.py").write_text("print('ran')")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(Path(parnet.__file__).parents[1])]))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(parnet.cli.unseen, "LIMITS", Limits(1.0, 3.0))
        options = ["-n", "2", "--oversubscribe", "--threads", "1", "--launcher", LAUNCHER]
        code = parnet.cli.main(["launch", *options, str(tmp_path / "script.py")])
        out, err = capfd.readouterr()
        assert code not in (0, 130) and "ran" not in out
        assert "RankError: MPI: 1 of 2 ranks have waited for 3 s for others that have left before all met" in err

    @pytest.mark.skipif(not open_mpi(), reason="tells its ranks by the variables of Open MPI")
    def test_ctrl_c_while_ranks_wait_for_each_other_ends_the_job_at_once(self, tmp_path):
        site = tmp_path / "site"
        site.mkdir()
        wait = f"open({str(tmp_path / 'there')!r}, 'w').close(); time.sleep(1000)"
        (site / "sitecustomize.py").write_text(self.BEFORE + wait)
        job = Job(tmp_path, "print('ran')", 2, more_path=site)
        job.wait_for(tmp_path / "there")
        os.killpg(job.process.pid, signal.SIGINT)
        code, out, _ = job.end(60)
        assert code == 130 and "ran" not in out
