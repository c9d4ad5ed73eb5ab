"""What every wire protocol of the simulated exchange offers to the pump and to the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import orjson

from exchanges.simulation.clock import VirtualClock
from exchanges.simulation.limits import Verdict, WeightLimit
from exchanges.simulation.tape import Row, Tape, Ticker, Trade


class Kind(Enum):
    """What a subscription is about."""

    KLINE = auto()
    TRADE = auto()
    TICKER = auto()
    BOOK = auto()
    BEAT = auto()


@dataclass(frozen=True, slots=True)
class Topic:
    """One subscription: its kind, its name on the wire, and its symbol ('' for heartbeats)."""

    kind: Kind
    name: str
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer over REST."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Subscriptions:
    """The topics of one connection, in the order of their arrival."""

    def __init__(self) -> None:
        self.by_kind: dict[Kind, dict[str, Topic]] = {kind: {} for kind in Kind}

    def add(self, topic: Topic) -> None:
        """Subscribe; a topic already there stays where it is."""
        self.by_kind[topic.kind].setdefault(topic.name, topic)

    def remove(self, topic: Topic) -> None:
        """Unsubscribe; what was never there is no error."""
        self.by_kind[topic.kind].pop(topic.name, None)

    def count(self) -> int:
        """Count the topics."""
        return sum(len(topics) for topics in self.by_kind.values())


@dataclass(slots=True)
class Conversation:
    """What a protocol remembers of one connection, and what it wants to say next."""

    topics: Subscriptions = field(default_factory=Subscriptions)
    replies: list[str] = field(default_factory=list)
    sequence: int = 0
    close_code: int | None = None


Query = Mapping[str, str]
#: Takes the variable parts of the path and the query.
Handler = Callable[[Mapping[str, str], Query], Reply]


class WireProtocol(ABC):
    """Speaks as one exchange does, over REST and websocket.

    Parameters
    ----------
    tape
        What can be seen of the market.
    clock
        The virtual time.
    """

    name: str
    socket_paths: tuple[str, ...]
    #: Messages a client may send in a second before it is thrown out; None: any number.
    messages_a_second: int | None = None

    def __init__(self, tape: Tape, clock: VirtualClock) -> None:
        self.tape = tape
        self.clock = clock

    @abstractmethod
    def routes(self) -> dict[str, Handler]:
        """Give the handlers by path."""

    @abstractmethod
    def make_limit(self) -> WeightLimit:
        """Make the request limit that one client address has."""

    @abstractmethod
    def weight(self, path: str, query: Query) -> int:
        """Tell what a request costs."""

    @abstractmethod
    def limit_headers(self, verdict: Verdict, limit: WeightLimit) -> dict[str, str]:
        """Tell the client how much it has used."""

    @abstractmethod
    def refusal(self, verdict: Verdict) -> Reply:
        """Refuse a request beyond the limit."""

    @abstractmethod
    def hear(self, said: Conversation, message: str) -> None:
        """Take a message of the client: change its topics and put replies into the conversation."""

    def kline(self, topic: Topic, row: Row, *, closed: bool, event_ms: int) -> str:
        """Write a candle, where the protocol has a stream of them."""
        raise LookupError(f"{self.name} has no candle stream")

    @abstractmethod
    def trades(self, topic: Topic, trades: list[Trade]) -> list[str]:
        """Write trades, oldest first."""

    @abstractmethod
    def ticker(self, topic: Topic, ticker: Ticker) -> str:
        """Write a ticker, or the top of the book for a BOOK topic."""

    def beat(self, now_ms: int, count: int) -> str | None:
        """Write a heartbeat, where the protocol has one."""
        return None

    def prepared(self, text: str, said: Conversation) -> str:
        """Finish a frame for one connection, for example with its sequence number."""
        return text


def json_reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Make a reply of plain data."""
    return Reply(body=orjson.dumps(body), status=status, headers=headers or {})


def whole_number(query: Query, name: str, default: int | None = None) -> int | None:
    """Read a whole number out of a query; raise ValueError naming the parameter."""
    text = query.get(name)
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(name) from error
