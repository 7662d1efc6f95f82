"""Anonymous memory that the server and the workers of its node map.

It has no name, needs no room in /dev/shm, and ends with the last process that maps it. Its descriptor is sent over the
connection.
"""

import mmap
import os
import socket
import sys
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

# Processes of one node can share memory by passing a descriptor.
CAN_SHARE = sys.platform == "linux" and hasattr(os, "memfd_create")


class SharedMemory:
    """Anonymous memory of `shape` float32 that other processes of this node can map."""

    def __init__(self, descriptor: int, shape: tuple[int, ...]) -> None:
        """Map the memory of a descriptor, and own the descriptor."""
        self.descriptor = descriptor
        # One byte at least: a map cannot be empty, and a work without vectors has no slots.
        self._map = mmap.mmap(descriptor, max(int(np.prod(shape)) * 4, 1))
        self.array: NDArray[np.float32] = np.frombuffer(self._map, np.float32, int(np.prod(shape))).reshape(shape)

    @classmethod
    def create(cls, shape: tuple[int, ...]) -> "SharedMemory":
        """Return new memory, all zero. The kernel provides each page when it is first touched."""
        descriptor = os.memfd_create("cnnpar", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, max(int(np.prod(shape)) * 4, 1))
        return cls(descriptor, shape)

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped while an array uses it. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def send_memory(peer: socket.socket, *memories: SharedMemory) -> None:
    """Send memory to the worker of this node at the other end of a connection. Raises OSError."""
    # A message needs one byte at least to carry descriptors (unix(7)).
    socket.send_fds(peer, [b"m"], [memory.descriptor for memory in memories])


def receive_memory(connection: Connection, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Return arrays in the memory that `send_memory` sent, in the same order. Raises EOFError when none comes."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:  # Connection cannot receive descriptors
        _, descriptors, _, _ = socket.recv_fds(twin, 1, len(shapes))
    if len(descriptors) != len(shapes):
        raise EOFError("the server closed the connection")
    memories = [SharedMemory(descriptor, shape) for descriptor, shape in zip(descriptors, shapes, strict=True)]
    for memory in memories:
        memory.close()  # the mapping stays
    return [memory.array for memory in memories]
