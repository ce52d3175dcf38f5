"""MongoDB's protocol over TCP: messages in, messages out."""

import socket
import socketserver
import struct
from collections.abc import Callable
from typing import Any

import bson

Document = dict[str, Any]

#: Length, identifier, identifier that is answered to, operation.
HEADER = struct.Struct("<iiii")
OP_REPLY, OP_MSG = 1, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1, 2


class WireServer(socketserver.ThreadingTCPServer):
    """Answers every command with what a function returns for it, one thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], answer: Callable[[Document], Document]
    ) -> None:
        self.answer = answer
        super().__init__(address, Connection)


class Connection(socketserver.BaseRequestHandler):
    """One client."""

    server: WireServer
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                self._exchange()
        except OSError:  # it has gone
            pass

    def _exchange(self) -> None:
        length, request_id, _, operation = HEADER.unpack(self._read(HEADER.size))
        data = self._read(length - HEADER.size)
        if operation == OP_MSG:
            flags, command = parse_message(data)
            body = b"\0" * 5 + bson.encode(self.server.answer(command))
            if flags & MORE_TO_COME:
                return
            answered = OP_MSG
        else:  # OP_QUERY: drivers still begin with it
            body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(
                self.server.answer(parse_query(data))
            )
            answered = OP_REPLY
        self.request.sendall(
            HEADER.pack(HEADER.size + len(body), 0, request_id, answered) + body
        )

    def _read(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            part = self.request.recv(size - len(received))
            if not part:
                raise ConnectionError
            received += part
        return bytes(received)


def parse_message(data: bytes) -> tuple[int, Document]:
    """Return the flags of an OP_MSG and its command, with the sequences of documents that are sent beside it."""
    (flags,) = struct.unpack_from("<I", data)
    end = len(data) - (4 if flags & CHECKSUM_PRESENT else 0)
    position = 4
    command: Document = {}
    sequences: Document = {}
    while position < end:
        section, position = data[position], position + 1
        (size,) = struct.unpack_from("<i", data, position)
        if section == 0:
            command = bson.decode(data[position : position + size])
        else:
            name_end = data.index(b"\0", position + 4)
            name = data[position + 4 : name_end].decode()
            sequences[name] = bson.decode_all(data[name_end + 1 : position + size])
        position += size
    return flags, {**command, **sequences}


def parse_query(data: bytes) -> Document:
    """Return the command of an OP_QUERY."""
    name_end = data.index(b"\0", 4)
    command: Document = bson.decode(data[name_end + 9 :])
    return {**command, "$db": data[4:name_end].decode().partition(".")[0]}
