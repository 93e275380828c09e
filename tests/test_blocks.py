"""Shared memory that worker processes see: where it lies, and that huge pages change nothing but speed."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from parnet.comm import pages
from parnet.comm.blocks import Block, new_block
from parnet.errors import ResourceError

SIZES = [1, 4096, pages.HUGE - 1, pages.HUGE, pages.HUGE + 1, 3 * pages.HUGE + 5000]

pytestmark = pytest.mark.timeout(60)
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into Linux's /proc")


def other(block):
    """The same memory as another process maps it."""
    return Block(os.dup(block.handle), block.size)


@pytest.mark.parametrize("size", SIZES)
def test_a_block_is_zeroed_and_every_process_sees_all_of_it(size):
    block = new_block(size, "test")
    assert block.bytes.shape == (size,) and not block.bytes.any()
    block.bytes[:] = np.arange(size) % 251
    seen = other(block)
    assert np.array_equal(seen.bytes, block.bytes)
    seen.bytes[-1] = 255
    assert block.bytes[-1] == 255 and block.address == block.bytes.ctypes.data


@on_linux
def test_a_large_block_starts_where_a_huge_page_does_in_every_process():
    block = new_block(pages.HUGE + 1, "test")
    assert block.address % pages.HUGE == 0 == other(block).address % pages.HUGE


@on_linux
def test_huge_pages_are_there_if_a_block_says_so():
    block = new_block(4 * pages.HUGE, "test")
    if not block.huge:
        pytest.skip("this system makes no huge pages of shared memory")
    ours = Path("/proc/self/smaps").read_text(encoding="utf-8").split(f"\n{block.address:x}-")[1]
    mapped = 1024 * int(ours.split("ShmemPmdMapped:")[1].split()[0])
    assert mapped == 4 * pages.HUGE


def test_a_system_that_makes_no_huge_pages_gives_the_same_block(monkeypatch):
    monkeypatch.setattr(pages, "MADV_COLLAPSE", 9999)
    block = new_block(pages.HUGE, "test")
    assert not block.huge
    block.bytes[:] = 3
    assert other(block).bytes.sum() == 3 * pages.HUGE


def test_other_systems_map_blocks_as_python_does(monkeypatch):
    monkeypatch.setattr(pages.sys, "platform", "darwin")
    block = new_block(pages.HUGE + 7, "test")
    block.bytes[:] = 3
    assert not block.huge and other(block).bytes.sum() == 3 * (pages.HUGE + 7)


def test_memory_that_cannot_be_mapped_is_an_error_and_closes_its_handle(monkeypatch):
    taken = []

    def refuse(handle, size):
        taken.append(handle)
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(pages, "map_file", refuse)
    with pytest.raises(ResourceError, match=r"test: expected 2\.00 MiB of shared memory"):
        new_block(pages.HUGE, "test")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(taken[0])


@on_linux
def test_memory_is_given_back_when_the_last_array_goes():
    def mappings():
        return Path("/proc/self/maps").read_text(encoding="utf-8").count("memfd:parnet")

    before = mappings()
    array = new_block(pages.HUGE, "test").array((10,), np.float32)
    assert mappings() == before + 1
    array[:] = 1
    del array
    assert mappings() == before
