"""What the system says of a process on this machine, and how long a silent one is waited for. Stage: comm.

Must not know: what the process is for.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import check_number

#: the system's letter for a state -> words
STATES = {
    "T": "it is stopped, by SIGSTOP or Ctrl-Z; SIGCONT lets it go on",
    "t": "a debugger holds it",
    "D": "it waits for a disk or a file server",
    "Z": "it has ended",
}


@dataclass
class Limits:
    """Seconds: of silence before a process is named, and before it is given up."""

    warning_s: float = 10.0
    end_s: float = 60.0


def check_limits(warning_s: Any, end_s: Any, where: str) -> Limits:
    """Limits that a user gives. Raises HyperparameterError."""
    warning_s = check_number(warning_s, f"{where}(stall_warning_s)", 0, above=True)
    return Limits(warning_s, check_number(end_s, f"{where}(stall_limit_s)", warning_s))


@dataclass(frozen=True)
class Look:
    """A process at one moment.

    Attributes:
        state: the system's letter. ticks: of processor time that it has used.
    """

    state: str
    ticks: int

    @property
    def stopped(self) -> bool:
        """Whether it gets no processor time until somebody lets it go on."""
        return self.state in ("T", "t")

    @property
    def words(self) -> str:
        """The state, where it says why a process is silent; "" elsewhere."""
        return STATES.get(self.state, "")


def look_at(pid: int) -> Look | None:
    """A process of this machine; None where the system does not say, or there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Look(fields[0], int(fields[11]) + int(fields[12]))
    except (OSError, ValueError, IndexError):
        return None


def started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the machine did; None as for `look_at`. Pids are used again."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


@dataclass(frozen=True)
class Address:
    """Where a process is.

    Attributes:
        pid: its number there. host: the machine. numbers: whose numbering; containers have their own.
    """

    pid: int
    host: str
    numbers: str

    @classmethod
    def mine(cls) -> Address:
        """Of this process."""
        try:
            numbers = os.readlink("/proc/self/ns/pid")
        except OSError:
            numbers = ""
        return cls(os.getpid(), socket.gethostname(), numbers)

    def look(self) -> Look | None:
        """What the system says of it; None where it is elsewhere, or the system says nothing."""
        mine = Address.mine()
        return look_at(self.pid) if (self.host, self.numbers) == (mine.host, mine.numbers) else None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"
