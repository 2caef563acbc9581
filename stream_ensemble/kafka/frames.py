"""Large requests and answers, copied less often between batch and socket than by aiokafka 0.14.

Leans on its private connection; ``tests/contract/test_private_api.py`` fails when that moves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Array, Bytes, Int32, Schema

#: From this size (bytes) on an answer is read straight into its place.
_LARGE: Final = 64 << 10
#: What a connection reads at once of anything smaller.
_SCRATCH: Final = 64 << 10


class JoinedRequest(ProduceRequest):
    """A produce request whose batches are copied once, when all is joined; aiokafka's copies them at each
    level of the message.
    """

    def build(self, request_struct_class: Any) -> Any:
        """As aiokafka's."""
        built: Any = super().build(request_struct_class)
        values = [getattr(built, name) for name in built.SCHEMA.names]
        built.encode = partial(_joined, built.SCHEMA, values)
        return built


def _joined(schema: Schema, values: list[Any]) -> bytes:
    return b"".join(_pieces(schema, values))


def _pieces(field: Any, value: Any) -> Iterator[bytes]:
    if isinstance(field, Schema):
        for part, each in zip(field.fields, value, strict=True):
            yield from _pieces(part, each)
    elif isinstance(field, Array) and value is not None:
        yield Int32.encode(len(value))
        for each in value:
            yield from _pieces(field.array_of, each)
    elif field is Bytes and value is not None:
        yield Int32.encode(len(value))
        yield value
    else:
        yield field.encode(value)


class JoiningClient:
    """aiokafka's client for a producer's sender: its produce requests go out as :class:`JoinedRequest`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **kwargs: Any) -> Any:
        if type(request) is ProduceRequest:
            request.__class__ = JoinedRequest
        return await self._client.send(node_id, request, **kwargs)


class _Reader(asyncio.StreamReader):
    """A connection's reader that takes a large answer without a buffer in between."""

    _buffer: bytearray
    _scratch: memoryview
    _frame: memoryview | None
    _filled: int
    _whole: asyncio.Future[None]

    async def readexactly(self, n: int) -> Any:
        """A memoryview where ``n`` is large."""
        if n < _LARGE or len(self._buffer) >= n or self.at_eof() or self.exception() is not None:
            return await super().readexactly(n)
        # Not a bytearray, which would be filled with zeros first.
        frame = np.empty(n, np.uint8).data
        self._filled = len(self._buffer)
        frame[: self._filled] = self._buffer
        self._buffer.clear()
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        self._whole = asyncio.get_running_loop().create_future()
        self._frame = frame
        try:
            await self._whole
        finally:
            self._frame = None
        return frame

    def place(self) -> memoryview:
        """Where the next bytes belong."""
        return self._scratch if self._frame is None else self._frame[self._filled :]

    def placed(self, n: int) -> None:
        """So many bytes are there."""
        if self._frame is None:
            self.feed_data(self._scratch[:n])
            return
        self._filled += n
        if self._filled == len(self._frame):
            self._frame = None
            if not self._whole.done():
                self._whole.set_result(None)

    def broken(self, error: BaseException | None) -> None:
        """No more bytes will come."""
        if self._frame is not None and not self._whole.done():
            missing = len(self._frame)
            self._whole.set_exception(error or asyncio.IncompleteReadError(b"", missing))


class _IntoPlace(asyncio.BufferedProtocol):
    """Fills a :class:`_Reader`; everything else is the business of the protocol before."""

    def __init__(self, reader: _Reader, before: Any) -> None:
        self._reader = reader
        self._before = before

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.place()

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.placed(nbytes)

    def eof_received(self) -> bool | None:
        self._reader.broken(None)
        keep_open: bool | None = self._before.eof_received()
        return keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self._reader.broken(exc)
        self._before.connection_lost(exc)


class _Source:
    """What an answer is decoded from, without a copy of it all."""

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._at = 0

    def read(self, n: int) -> bytes:
        begin, self._at = self._at, self._at + n
        return self._frame[begin : begin + n].tobytes()


class _Connection(AIOKafkaConnection):
    def _handle_frame(self, resp: Any) -> None:
        if type(resp) is not memoryview:
            super()._handle_frame(resp)
            return
        correlation_id, request, future = self._requests[0]
        source: Any = _Source(resp)
        if correlation_id is None or request.parse_response_header(source).correlation_id != correlation_id:
            super()._handle_frame(resp.tobytes())
            return
        if not future.done():
            future.set_result(request.RESPONSE_TYPE.decode(source))
        self._last_action = time.monotonic()
        self._requests.popleft()


def read_into_place(connection: AIOKafkaConnection) -> None:
    """Let an open connection's large answers be read into their place from now on."""
    if type(connection) is not AIOKafkaConnection or not connection.connected():
        return
    reader = connection._reader
    reader._scratch, reader._frame = memoryview(bytearray(_SCRATCH)), None
    reader.__class__ = _Reader
    connection.__class__ = _Connection
    connection._writer.transport.set_protocol(_IntoPlace(reader, connection._protocol))
