"""Calls that only some systems have: without them everything still works."""

from __future__ import annotations

import os

import pytest

from parnet import config
from parnet.cli import info
from parnet.io import atomic
from parnet.study import machine


def test_without_affinity_masks_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(config, "cgroup_quota", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert config.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert config.usable_cores() == 1


def test_without_cgroups_there_is_no_quota(monkeypatch):
    monkeypatch.setattr(config.Path, "read_text", lambda self, *a, **k: (_ for _ in ()).throw(FileNotFoundError(str(self))))
    assert config.cgroup_quota() is None


def test_without_file_locks_files_are_still_replaced_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(atomic, "fcntl", None)
    path = tmp_path / "out.bin"
    with atomic.replacing(path, "save") as file:
        file.write(b"one")
    with pytest.raises(RuntimeError), atomic.replacing(path, "save") as file:
        file.write(b"tw")
        raise RuntimeError
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["out.bin"]


def test_info_without_affinity_masks_and_proc(monkeypatch, capsys):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    real = machine.Path.read_text

    def read_text(self, *args, **options):
        if str(self).startswith("/proc"):
            raise FileNotFoundError(str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(machine.Path, "read_text", read_text)
    assert info.show(True) == 0
    assert capsys.readouterr().out.startswith("{")
