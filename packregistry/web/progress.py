"""How far a client has come with taking what it is sent, as the kernel knows it.

What waits in a transport says too little: over TLS there is a second buffer below, which fills the kernel's again, so
that nothing that can be seen here changes while a slow client takes megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import struct
import termios

# `tcpi_bytes_acked` of Linux's `struct tcp_info`; shorter answers come from kernels that do not count it.
_ACKNOWLEDGED = struct.Struct("120xQ")


def progress(transport: asyncio.Transport) -> tuple[int, int]:
    """Something that differs from what it was before if the client has taken anything in between."""
    return _buffered(transport), _acknowledged(_descriptor(transport))


def unsent(transport: asyncio.Transport) -> bool:
    """Whether something that was written may not have reached the client's machine."""
    return _buffered(transport) > 0 or queued(_descriptor(transport)) > 0


def unread(transport: asyncio.Transport) -> bool:
    """Whether the client has sent something that nobody looked at yet, or has hung up."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def queued(descriptor: int) -> int:
    """How many bytes the kernel holds that the client has not acknowledged; 0 for what is no open socket."""
    try:
        count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    except (OSError, ValueError):
        return 0
    return count


def _buffered(transport: asyncio.Transport) -> int:
    try:
        return transport.get_write_buffer_size()
    except AttributeError:  # asyncio's own over TLS, once it was closed from both sides
        return 0


def _descriptor(transport: asyncio.Transport) -> int:
    """The number of the connection's socket; -1 where there is none any more."""
    try:
        found = transport.get_extra_info("socket")
    except AttributeError:  # as above
        return -1
    return -1 if found is None else found.fileno()


def _acknowledged(descriptor: int) -> int:
    """A number that changes with what the client has acknowledged."""
    if descriptor < 0:
        return 0
    # What uvloop gives out as a socket cannot be asked. A duplicate needs a free descriptor, which there may not be.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as duplicate:
        info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        if len(info) == _ACKNOWLEDGED.size:
            count: int = _ACKNOWLEDGED.unpack(info)[0]
            return count
    return -queued(descriptor)
