"""`parnet launch`: what it tells each launcher, what it refuses, and real jobs that end well, badly and early."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
import ranks
from ranks import Job, needs_mpi, run_ranks

from parnet.cli import launch, launchers, main, sweep
from parnet.cli.launchers import Launcher, Wish, command

PROGRAM = ("python", "-m", "mpi4py", "train.py", "--epochs", "3")


def words(kind, names=(), **wish):
    return " ".join(command(Launcher(kind, "LAUNCHER"), Wish(4, 2, PROGRAM, **wish), names))


def test_each_launcher_binds_a_rank_to_as_many_cores_as_it_has_threads():
    end = " python -m mpi4py train.py --epochs 3"
    assert words("openmpi", ["A"]) == "LAUNCHER -n 4 --map-by slot:PE=2 --bind-to core -x A" + end
    assert words("hydra", ["A"]) == "LAUNCHER -n 4 -bind-to core:2 -map-by core:2" + end
    assert words("slurm", ["A"]) == "LAUNCHER --ntasks=4 --cpus-per-task=2 --kill-on-bad-exit=1 --cpu-bind=cores" + end


def test_more_threads_than_cores_are_not_bound():
    assert "--map-by slot:OVERSUBSCRIBE --bind-to none" in words("openmpi", oversubscribe=True)
    assert "-bind-to none" in words("hydra", oversubscribe=True)
    assert "--cpu-bind=none" in words("slurm", oversubscribe=True)


def test_hardware_threads_are_used_where_cores_do_not_suffice():
    assert "--map-by slot:PE=2:HWTCPUS --bind-to hwthread" in words("openmpi", hardware_threads=True)
    assert "-bind-to hwthread:2" in words("hydra", hardware_threads=True)


def test_the_users_own_words_come_before_the_program():
    assert "--hostfile hosts python" in words("openmpi", more=("--hostfile", "hosts"))


def test_only_open_mpi_goes_on_after_a_failure():
    assert "--with-ft ulfm --mca coll ^han,cuda --mca async_mpi_finalize 1" in words("openmpi", ulfm=True)
    with pytest.raises(launch.ResourceError, match="--ulfm needs Open MPI"):
        words("hydra", ulfm=True)


def program(folder, name, says):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for launchers are shell scripts")
def test_launchers_are_told_apart_by_what_they_say(tmp_path):
    said = {"mpirun (Open MPI) 5.0.11": "openmpi", "HYDRA build details:": "hydra", "slurm 23.11.4": "slurm"}
    for k, (line, kind) in enumerate(said.items()):
        assert launchers.kind_of(program(tmp_path, f"launcher{k}", line)) == kind
    with pytest.raises(launch.ResourceError, match="which says: something else; name another one"):
        launchers.kind_of(program(tmp_path, "other", "something else"))


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins for launchers are shell scripts")
def test_srun_is_taken_inside_a_slurm_job_alone(tmp_path, monkeypatch):
    program(tmp_path, "srun", "slurm 23.11.4")
    mpirun = program(tmp_path, "mpirun", "mpirun (Open MPI) 5.0.11")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    environ = {"PATH": str(tmp_path)}
    assert launchers.find(None, environ) == Launcher("openmpi", mpirun)
    assert launchers.find(None, environ | {"SLURM_JOB_ID": "7"}).kind == "slurm"
    assert launchers.find("srun", environ).kind == "slurm"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A script, a launcher that says it is Open MPI, eight cores, and mpi4py as far as anybody asks."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    program(tmp_path, "mpirun", "mpirun (Open MPI) 5.0.11")
    monkeypatch.setattr(launch, "usable_cores", lambda: 8)
    monkeypatch.setattr(launch, "physical_cores", lambda: 4)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    path = tmp_path / "train.py"
    path.write_text("")
    return path


def said(capsys, *argv):
    """Exit code and what was printed."""
    code = main(["launch", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a launcher is a shell script")
def test_a_dry_run_shows_budgets_and_command(script, capsys):
    code, text = said(capsys, "-n", 2, "--dry-run", script, "--epochs", 3, "-n", 5)
    assert code == 0 and "PARNET_RANKS=2" in text and "OMP_NUM_THREADS=4" in text and "slot:PE=4:HWTCPUS" in text
    assert text.endswith(f"-m mpi4py -m parnet.cli.rank {script} --epochs 3 -n 5\n")
    assert "slot:PE=2 " in said(capsys, "-n", 2, "--threads", 2, "--dry-run", script)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a launcher is a shell script")
def test_wrong_use_is_refused_before_anything_starts(script, capsys, monkeypatch):
    for argv, message in (
        (("-n", 9, script), "received 9 ranks x 1 threads; start fewer, or give --oversubscribe"),
        (("-n", 4, "--threads", 3, script), "received 4 ranks x 3 threads; start fewer, or give --oversubscribe"),
        (("-n", 2, script.parent / "other.py"), "which is no file; check the path"),
        (("-n", 0, script), "expected a whole number of 1 or more, received 0"),
        (("-n", 2, "--launcher", "nix", script), "expected one of the programs nix, found none; install one: pip install"),
    ):
        code, text = said(capsys, *argv)
        assert code == 2 and text.count("\n") == 1
        assert message in text
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert "'mpi4py', which is not installed; run: pip install 'parnet[mpi]'" in said(capsys, "-n", 2, script)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a launcher is a shell script")
def test_in_a_slurm_job_slurm_says_how_many_threads(script, capsys, monkeypatch):
    program(script.parent, "srun", "slurm 23.11.4")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "16")
    assert "--ntasks=64 --cpus-per-task=16" in said(capsys, "-n", 64, "--dry-run", script)[1]


# -- real jobs ------------------------------------------------------------------------------------

WHO = """
    import os, sys
    from mpi4py import MPI
    import helper_beside
    comm = MPI.COMM_WORLD
    sys.stdout.write(f"<{comm.rank} of {comm.size} {os.environ['OMP_NUM_THREADS']} {sys.argv[1:]} {__name__}>")
"""


class TestJobs:
    pytestmark = [*needs_mpi, pytest.mark.usefixtures("nothing_left")]

    def test_every_rank_runs_the_script_with_its_arguments(self, tmp_path):
        (tmp_path / "helper_beside.py").write_text("")
        job = Job(tmp_path, WHO, 2, words=("-a", "3"))
        code, out, err = job.end()
        assert code == 0, err
        for rank in range(2):
            assert f"<{rank} of 2 1 ['-a', '3'] __main__>" in out

    def test_the_exit_code_of_a_rank_is_that_of_the_job(self, tmp_path):
        assert "" in run_ranks(
            tmp_path, "import sys; from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); sys.exit(7)", 2, code=7
        )

    def test_an_exception_on_one_rank_ends_the_job(self, tmp_path):
        text = """
            from mpi4py import MPI
            comm = MPI.COMM_WORLD
            if comm.rank == 1:
                raise ValueError("no such thing")
            comm.Barrier()
            comm.recv(source=1)
        """
        assert "ValueError: no such thing" in run_ranks(tmp_path, text, 2, code=1, limit_s=60)

    def test_a_killed_rank_ends_the_job(self, tmp_path):
        text = """
            import os, signal
            from mpi4py import MPI
            comm = MPI.COMM_WORLD
            if comm.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            comm.recv(source=1)
        """
        code, _, _ = Job(tmp_path, text, 2).end(60)
        assert code not in (0, 130)

    WAIT = """
        import pathlib, sys, time
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        try:
            comm.Barrier()
            pathlib.Path(f"ready{comm.rank}").touch()
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            if len(sys.argv) == 1:
                pathlib.Path(f"saved{comm.rank}").touch()
                comm.Barrier()
                raise
            while True:
                time.sleep(1)
    """

    def started(self, tmp_path, *words):
        job = Job(tmp_path, self.WAIT, 2, words=words)
        for rank in range(2):
            job.wait_for(tmp_path / f"ready{rank}")
        return job

    def test_ctrl_c_reaches_every_rank_as_a_keyboard_interrupt(self, tmp_path):
        job = self.started(tmp_path)
        os.killpg(job.process.pid, signal.SIGINT)
        code, _, err = job.end(60)
        assert code == 130 and (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()
        assert "the ranks stop after this step" in err

    def test_ctrl_c_twice_ends_ranks_that_do_not_stop(self, tmp_path):
        job = self.started(tmp_path, "deaf")
        os.killpg(job.process.pid, signal.SIGINT)
        time.sleep(0.3)
        os.killpg(job.process.pid, signal.SIGINT)
        assert job.end(60)[0] == 130

    def test_a_killed_launch_takes_its_ranks_and_their_shared_memory_with_it(self, tmp_path):
        before = sweep.shared_memory()
        job = self.started(tmp_path)
        mine = ranks.of_jobs(tmp_path)
        assert mine
        job.process.kill()
        job.process.communicate(timeout=30)
        until = time.monotonic() + 30
        while (ranks.of_jobs(tmp_path) & mine or sweep.shared_memory() - before) and time.monotonic() < until:
            time.sleep(0.05)
        assert not ranks.of_jobs(tmp_path) & mine and not sweep.shared_memory() - before
