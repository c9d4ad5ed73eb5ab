"""The connections of the simulated exchange, and how a frame reaches each of them, faults included."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiohttp import web

from exchanges.simulation.faults import Faults
from exchanges.simulation.nonsense import nonsense
from exchanges.simulation.protocols.base import Conversation, Kind, Topic, WireProtocol
from exchanges.simulation.tape import Row

#: A frame held back by the fault `disorder` goes out after so many others.
DISORDER_FRAMES = 3


class Frame(NamedTuple):
    """Text to send, what it is about, and the candle in it, where it holds one."""

    text: str
    topic: Topic
    row: Row | None


class Client:
    """One websocket connection."""

    def __init__(
        self, protocol: WireProtocol, socket: web.WebSocketResponse, request: web.Request, faults: Faults
    ) -> None:
        self.protocol = protocol
        self.said = Conversation()
        self.frames_sent = 0
        self._socket = socket
        self._request = request
        self._faults = faults
        self._held: list[tuple[int, str]] = []

    @property
    def alive(self) -> bool:
        """Whether frames can still be sent."""
        return not self._socket.closed

    def topics(self, kind: Kind) -> list[Topic]:
        """List the subscriptions of one kind as they are now."""
        return list(self.said.topics.by_kind[kind].values())

    @property
    def listens(self) -> bool:
        """Whether it has subscribed to anything."""
        return self.said.topics.count() > 0

    def abort(self) -> None:
        """Drop the connection without a farewell."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def reply(self) -> None:
        """Say what the protocol has left to say."""
        replies, self.said.replies = self.said.replies, []
        for text in replies:
            await self._socket.send_str(self.protocol.prepared(text, self.said))

    async def send(self, frames: list[Frame]) -> None:
        """Send market data; waits while the client does not take it. A dead client is left alone."""
        try:
            if self._faults.quiet and not self._held:
                prepared = self.protocol.prepared
                for frame in frames:
                    await self._socket.send_str(prepared(frame.text, self.said))
                self.frames_sent += len(frames)
                return
            for frame in frames:
                for text in self._tampered(frame):
                    await self._socket.send_str(self.protocol.prepared(text, self.said))
                    self.frames_sent += 1
        except ConnectionError:
            await asyncio.sleep(0)

    # What reaches the wire in place of a frame.
    def _tampered(self, frame: Frame) -> list[str]:
        faults = self._faults
        if faults.strike("cut"):
            self.abort()
            raise ConnectionResetError("cut by a fault")
        if faults.strike("silence") or faults.strike("missing"):
            return []
        texts = []
        garbage = faults.strike("garbage")
        if garbage:
            texts.append(nonsense(self.protocol, frame.topic, frame.row, garbage.draw))
        text = frame.text
        if faults.strike("truncated"):
            text = text[: len(text) // 2]
        if faults.strike("disorder"):
            self._held.append((DISORDER_FRAMES, text))
            return texts
        texts.append(text)
        if faults.strike("duplicates"):
            texts.append(text)
        self._held = [(left - 1, held) for left, held in self._held]
        texts += [held for left, held in self._held if left <= 0]
        self._held = [(left, held) for left, held in self._held if left > 0]
        return texts


class Hub:
    """All connections."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        #: Set when somebody came, subscribed or acknowledged; the pump waits for it.
        self.changed = asyncio.Event()

    def add(self, client: Client) -> None:
        """Take in a connection."""
        self.clients.append(client)

    def remove(self, client: Client) -> None:
        """Forget a connection."""
        self.clients.remove(client)
        self.changed.set()

    def has_listener(self) -> bool:
        """Whether anybody has subscribed to anything."""
        return any(client.listens for client in self.clients)
