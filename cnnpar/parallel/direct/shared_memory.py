"""Anonymous memory that the server and the workers of its node map.

It has no name, needs no room in /dev/shm and is gone with its last process. Its descriptor goes over the connection.
"""

import mmap
import os
import socket
import sys
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

# Whether processes of one node can share memory by passing a descriptor.
CAN_SHARE = sys.platform == "linux" and hasattr(os, "memfd_create")


class SharedMemory:
    """Anonymous memory of `shape` float32 that can be given to another process of this node."""

    def __init__(self, descriptor: int, shape: tuple[int, ...]) -> None:
        """Maps a descriptor of memory of that size; the object owns it."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, max(int(np.prod(shape)) * 4, 1))
        self.array: NDArray[np.float32] = np.frombuffer(self._map, np.float32, int(np.prod(shape))).reshape(shape)

    @classmethod
    def create(cls, shape: tuple[int, ...]) -> "SharedMemory":
        """New memory, zero, of which the kernel provides a page when it is first touched."""
        descriptor = os.memfd_create("cnnpar", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, max(int(np.prod(shape)) * 4, 1))
        return cls(descriptor, shape)

    def close(self) -> None:
        """Give the descriptor back; the mapping goes with the last array that uses it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def send_memory(peer: socket.socket, *memories: SharedMemory) -> None:
    """Give a worker of this node the memory to work in."""
    socket.send_fds(peer, [b"m"], [memory.descriptor for memory in memories])


def receive_memory(connection: Connection, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """The memory that `send_memory` sent, in the same order."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        _, descriptors, _, _ = socket.recv_fds(twin, 1, len(shapes))
    if len(descriptors) != len(shapes):
        raise EOFError("the server closed the connection")
    memories = [SharedMemory(descriptor, shape) for descriptor, shape in zip(descriptors, shapes, strict=True)]
    for memory in memories:
        memory.close()
    return [memory.array for memory in memories]
