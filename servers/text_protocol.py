"""The text protocol of MariaDB and MySQL over a Unix socket, for an administrator without a password.

A client program does the same, but takes 10 to 50 ms to start, and a test asks its server some ten times. It knows
neither drivers nor servers: texts in, rows or an error out. A session lives for one call.
"""

import contextlib
import socket
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

Row = tuple[str | None, ...]

# LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS,
# PLUGIN_AUTH
CAPABILITIES: Final = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000
UTF8MB4: Final = 45
MORE_RESULTS: Final = 8
OK, ERROR, SWITCH, END, NULL = 0x00, 0xFF, 0xFE, 0xFE, 0xFB
LARGEST: Final = 0xFFFFFF
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30


class Refused(Exception):
    """The server answered with an error."""


def query(path: Path, user: str, database: str, text: str) -> list[Row]:
    """Run statements; return the rows of all of them.

    Raises:
        Refused: the server answered with an error; the statements after it have not run.
        OSError: nobody listens there, or nobody answers in time.
    """
    with contextlib.closing(_Session(path)) as session:
        session.log_in(user, database)
        return list(session.rows(text))


class _Session:
    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(CONNECT_SECONDS)
        self._number = 0
        try:
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def log_in(self, user: str, database: str) -> None:
        self._answer()
        plain = struct.pack("<IIB23x", CAPABILITIES, LARGEST, UTF8MB4)
        names = f"{user}\0\0{database}\0mysql_native_password\0"
        self._send(plain + names.encode())
        if self._answer()[0] == SWITCH:  # to the account's own plugin: without a password there is nothing to prove
            self._send(b"")
            self._answer()
        self._socket.settimeout(ANSWER_SECONDS)

    def rows(self, text: str) -> Iterator[Row]:
        self._number = 0
        self._send(b"\x03" + text.strip().rstrip(";").encode())
        more = True
        while more:
            answer = self._answer()
            if answer[0] == OK:
                status = _status(answer)
            else:
                self._until_end()  # the columns
                status = yield from self._table()
            more = bool(status & MORE_RESULTS)

    def _table(self) -> Generator[Row, None, int]:
        while not _is_end(packet := self._answer()):
            yield tuple(_cells(packet))
        return int.from_bytes(packet[3:5], "little")

    def _until_end(self) -> None:
        while not _is_end(self._answer()):
            pass

    def _send(self, payload: bytes) -> None:
        while True:
            part, payload = payload[:LARGEST], payload[LARGEST:]
            self._socket.sendall(struct.pack("<I", len(part) | self._number << 24) + part)
            self._number = (self._number + 1) % 256
            if len(part) < LARGEST:
                return

    def _answer(self) -> bytes:
        payload = b""
        while True:
            header = self._read(4)
            length, self._number = int.from_bytes(header[:3], "little"), (header[3] + 1) % 256
            payload += self._read(length)
            if length < LARGEST:
                break
        if payload[0] == ERROR:
            (number,) = struct.unpack_from("<H", payload, 1)
            raise Refused(f"ERROR {number}: {payload[9:].decode(errors='replace')}")
        return payload

    def _read(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise ConnectionError("the server has ended the session")
        return data


def _is_end(packet: bytes) -> bool:
    return packet[0] == END and len(packet) < 9


def _status(ok: bytes) -> int:
    _, at = _number(ok, 1)  # rows affected
    _, at = _number(ok, at)  # last insert id
    (status,) = struct.unpack_from("<H", ok, at)
    return int(status)


def _cells(packet: bytes) -> Iterator[str | None]:
    at = 0
    while at < len(packet):
        if packet[at] == NULL:
            at += 1
            yield None
        else:
            length, at = _number(packet, at)
            yield packet[at : at + length].decode(errors="replace")
            at += length


def _number(packet: bytes, at: int) -> tuple[int, int]:
    """Return a number of the protocol's variable length, and where the next thing is."""
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(packet[at], 0)
    end = at + 1 + size
    return (int.from_bytes(packet[at + 1 : end], "little") if size else packet[at]), end
