"""Anonymous memory that processes of one node map.

It has no name, needs no room in /dev/shm, and ends with the last process that maps it. Its descriptor is sent over a
connection, or inherited.
"""

import mmap
import os
import socket
import sys
import tempfile
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Processes of one node can share memory by passing a descriptor.
CAN_SHARE = sys.platform == "linux" and hasattr(os, "memfd_create")


class SharedMemory:
    """Anonymous memory of so many bytes."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map the memory of a descriptor, and own the descriptor."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, max(size, 1))  # a map cannot be empty

    @classmethod
    def create(cls, size: int) -> "SharedMemory":
        """Return new memory, all zero. The kernel provides each page when it is first touched."""
        if CAN_SHARE:
            descriptor = os.memfd_create("cnnpar", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, max(size, 1))
        return cls(descriptor, size)

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32, offset: int = 0) -> NDArray[Any]:
        """Return an array that lies in the memory, which stays mapped while the array is used."""
        return np.frombuffer(self._map, dtype, int(np.prod(shape)), offset).reshape(shape)

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped while an array uses it. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def send_memory(peer: socket.socket, *memories: SharedMemory) -> None:
    """Send memory to the worker of this node at the other end of a connection. Raises OSError."""
    # A message needs one byte at least to carry descriptors (unix(7)).
    socket.send_fds(peer, [b"m"], [memory.descriptor for memory in memories])


def receive_memory(connection: Connection, *sizes: int) -> list[SharedMemory]:
    """Return the memory that `send_memory` sent, in the same order. Raises EOFError when none comes."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:  # Connection cannot receive descriptors
        _, descriptors, _, _ = socket.recv_fds(twin, 1, len(sizes))
    if len(descriptors) != len(sizes):
        raise EOFError("the server closed the connection")
    memories = [SharedMemory(descriptor, size) for descriptor, size in zip(descriptors, sizes, strict=True)]
    for memory in memories:
        memory.close()  # the mapping stays
    return memories
