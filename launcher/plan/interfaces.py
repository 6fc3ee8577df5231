"""The addresses of this host's interfaces, as the kernel tells them; psutil would cost 10 ms of a start."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Iterator, Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# rtnetlink(7), linux/if_addr.h
_REQUEST = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_GETADDR, _NEWADDR, _ERROR, _DONE = 22, 20, 2, 3
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_PATIENCE = 5.0  # seconds; the kernel answers at once
_LARGEST = 1 << 16  # bytes of an answer's part


def addresses() -> list[tuple[str, Address, int]]:
    """List (interface, address, prefix length), those of an interface together; [] where none are told."""
    found: dict[str, list[tuple[str, Address, int]]] = {}
    try:
        for name, address, length in _dump():
            found.setdefault(name, []).append((name, address, length))
    except OSError:  # no netlink in this sandbox
        return []
    return [item for items in found.values() for item in items]


def _dump() -> Iterator[tuple[str, Address, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(_PATIENCE)
        size = _REQUEST.size + _ADDRESS.size
        link.send(_REQUEST.pack(size, _GETADDR, _DUMP, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0))
        while True:
            for kind, body in _messages(link.recv(_LARGEST), _REQUEST.size):
                if kind in (_DONE, _ERROR):
                    return
                if kind == _NEWADDR:
                    yield from _entry(body)


def _messages(data: bytes, header: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of netlink messages, or of attributes, each aligned to 4 bytes."""
    while len(data) >= header:
        if header == _REQUEST.size:
            size, kind, _, _, _ = _REQUEST.unpack_from(data)
        else:
            size, kind = _ATTRIBUTE.unpack_from(data)
        if size < header:
            return
        yield kind, data[header:size]
        data = data[(size + 3) & ~3 :]


def _entry(body: bytes) -> Iterator[tuple[str, Address, int]]:
    _, length, _, _, index = _ADDRESS.unpack_from(body)
    known = dict(_messages(body[_ADDRESS.size :], _ATTRIBUTE.size))
    packed = known.get(_IFA_LOCAL, known.get(_IFA_ADDRESS, b""))  # of a tunnel the other end is ADDRESS
    if len(packed) in (4, 16):
        yield socket.if_indextoname(index), ipaddress.ip_address(packed), length
