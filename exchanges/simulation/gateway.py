"""REST and websocket doors of one protocol: limits and faults before, the protocol behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSCloseCode, WSMsgType, web

from exchanges.simulation.faults import Faults
from exchanges.simulation.hub import Client, Hub
from exchanges.simulation.limits import Verdict, WeightLimit
from exchanges.simulation.protocols.base import Handler, Reply, WireProtocol

FAILURES = (500, 502, 503, 504)


class Gateway:
    """Lets a protocol talk to clients.

    Parameters
    ----------
    protocol
        What is spoken.
    hub, faults
        The parts of the exchange.
    limited
        Whether request limits are kept.
    """

    def __init__(self, protocol: WireProtocol, hub: Hub, faults: Faults, *, limited: bool = True) -> None:
        self._protocol = protocol
        self._hub = hub
        self._faults = faults
        self._limited = limited
        self._limits: dict[str, WeightLimit] = {}

    def add_routes(self, app: web.Application) -> None:
        """Put the protocol's paths into an application."""
        for path, handler in self._protocol.routes().items():
            app.router.add_get(path, self._door(handler))
        for path in self._protocol.socket_paths:
            app.router.add_get(path, self._socket)

    def _door(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            reply = self._limit(request)
            if reply.status == 200:
                faulty = await self._fault()
                if faulty is not None:
                    reply = faulty
                else:
                    told = handler(request.match_info, request.query)
                    reply = Reply(
                        body=told.body, status=told.status, headers={**reply.headers, **told.headers}
                    )
            return await self._respond(request, reply)

        return answer

    # A reply of status 200 here is only a carrier of headers: go on.
    def _limit(self, request: web.Request) -> Reply:
        if not self._limited:
            return Reply(body=b"")
        limit = self._limits.setdefault(request.remote or "", self._protocol.make_limit())
        verdict = limit.ask(self._protocol.weight(request.path, request.query))
        headers = self._protocol.limit_headers(verdict, limit)
        if verdict.status == 200:
            return Reply(body=b"", headers=headers)
        refusal = self._protocol.refusal(verdict)
        return Reply(body=refusal.body, status=refusal.status, headers={**headers, **refusal.headers})

    async def _fault(self) -> Reply | None:
        faults = self._faults
        if faults.quiet:
            return None
        slow = faults.strike("slow")
        if slow is not None:
            await asyncio.sleep(slow.delay_s)
        for name, status in (("418", 418), ("429", 429)):
            struck = faults.strike(name)
            if struck is not None:
                wait_s = max(1, round(struck.delay_s))
                return self._protocol.refusal(Verdict(status=status, used=0, retry_after_s=wait_s))
        failed = faults.strike("5xx")
        if failed is not None:
            page = b"<html><body><h1>Service Unavailable</h1></body></html>"
            return Reply(
                body=page, status=failed.draw.choice(FAILURES), headers={"Content-Type": "text/html"}
            )
        return None

    async def _respond(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", **reply.headers}
        body = reply.body
        if self._faults.strike("truncated_rest"):
            body = body[: len(body) // 2]
        if self._faults.strike("cut_rest"):
            stream = web.StreamResponse(
                status=reply.status, headers={**headers, "Content-Length": str(len(body))}
            )
            await stream.prepare(request)
            await stream.write(body[: len(body) // 2])
            if request.transport is not None:
                request.transport.close()
            return stream
        return web.Response(body=body, status=reply.status, headers=headers)

    def _pace(self) -> WeightLimit | None:
        most = self._protocol.messages_a_second
        return WeightLimit(weight=most, window_s=1.0) if most and self._limited else None

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._faults.lasts("cut"):
            return web.Response(status=503, text="down for maintenance")
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        client = Client(self._protocol, socket, request, self._faults)
        pace = self._pace()
        self._hub.add(client)
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                text = (
                    message.data if isinstance(message.data, str) else message.data.decode(errors="replace")
                )
                self._protocol.hear(client.said, text)
                if pace is not None and pace.ask(1).status != 200:
                    client.said.close_code = WSCloseCode.POLICY_VIOLATION
                await client.reply()
                self._hub.changed.set()
                if client.said.close_code is not None:
                    await socket.close(code=client.said.close_code)
        except ConnectionError:
            return socket
        finally:
            self._hub.remove(client)
        return socket
