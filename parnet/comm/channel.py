"""Messages between a process and one that it started: objects and file descriptors over a pair of sockets. Stage: comm.

Both ends belong to parnet and to one user, so objects travel pickled. A peer that has died, however it did, ends the channel
at once. Must not know: what the messages mean.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any

HEADER = struct.Struct("<qq")
#: file descriptors with one message
MOST_HANDLES = 16
#: seconds between two looks at a process that does not read
TICK_S = 0.2


class ChannelEnded(Exception):
    """The process at the other end is gone, or does not read."""


class Channel:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket):
        self.socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """For `select`."""
        return self.socket.fileno()

    def send(self, message: Any, handles: tuple[int, ...] = (), waiting: Callable[[], None] | None = None) -> None:
        """Send an object and open files. Raises ChannelEnded.

        Args:
            waiting: called again and again, each TICK_S, while the other end reads nothing; what it raises ends the channel,
                for the rest of a message that has been left half sent would be taken for the next one.
        """
        payload = memoryview(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        head, limit_s = [HEADER.pack(len(payload), len(handles))], self.socket.gettimeout()
        try:
            self.socket.settimeout(limit_s if waiting is None else TICK_S)
            self._again(lambda: socket.send_fds(self.socket, head, list(handles)), waiting)
            while payload:
                piece = payload[: 1 << 20]
                payload = payload[self._again(lambda piece=piece: self.socket.send(piece), waiting) :]  # type: ignore[misc]
            self.socket.settimeout(limit_s)
        except ConnectionError as error:  # what the other end had to say may still be there
            raise ChannelEnded(str(error)) from error
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            if isinstance(error, OSError):
                raise ChannelEnded(str(error)) from error
            raise

    @staticmethod
    def _again(send: Callable[[], int], waiting: Callable[[], None] | None) -> int:
        """Bytes that were sent, at least one."""
        while True:
            try:
                return send()
            except TimeoutError:
                if waiting is None:
                    raise
                waiting()

    def receive(self) -> tuple[Any, list[int]]:
        """Wait for an object and the open files that came with it. Raises ChannelEnded."""
        try:
            head, handles, _, _ = socket.recv_fds(self.socket, HEADER.size, MOST_HANDLES)
            head += self._exactly(HEADER.size - len(head)) if head else b""
            if not head:
                raise ChannelEnded("closed")
            return pickle.loads(self._exactly(HEADER.unpack(head)[0])), handles
        except OSError as error:
            raise ChannelEnded(str(error)) from error

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            piece = self.socket.recv(min(count - len(parts), 1 << 20))
            if not piece:
                raise ChannelEnded("closed")
            parts += piece
        return bytes(parts)

    def close(self) -> None:
        """Close this end. May be called twice."""
        self.socket.close()
