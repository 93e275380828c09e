"""Messages between a process and one that it started: objects and file descriptors over a pair of sockets. Stage: comm.

Both ends belong to parnet and to one user, so objects travel pickled. A peer that has died, however it did, ends the channel
at once. Must not know: what the messages mean.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

HEADER = struct.Struct("<qq")
#: file descriptors with one message
MOST_HANDLES = 16


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

    def send(self, message: Any, handles: tuple[int, ...] = ()) -> None:
        """Send an object and open files. Raises ChannelEnded."""
        payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        try:
            socket.send_fds(self.socket, [HEADER.pack(len(payload), len(handles))], list(handles))
            self.socket.sendall(payload)
        except OSError as error:
            raise ChannelEnded(str(error)) from error

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
