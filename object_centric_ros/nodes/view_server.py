"""The web page's server: pictures as streams, state as JSON, goals and stops as requests. No rclpy in here."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cv2
from aiohttp import web

from object_centric_ros.encodings import decode_picture
from object_centric_ros.errors import InputError

MAX_UPLOAD = 10 * 2 ** 20
MAX_STREAMS = 8
PAGE = Path(__file__).with_name('page')
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " \
         "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
OPEN = ('/', '/view.js', '/view.css')
"""Parts of the page that say nothing about the robot, and come without a token."""
LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
MARK = 'X-Object-Centric'
"""A header that a page of another site cannot send without asking first, which is never allowed."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(view: Any, goals: Callable[[dict[str, Any], Any], Any], hosts: tuple[str, ...], token: str = ''
             ) -> web.Application:
    """The application.

    Args:
        view: a ViewNode.
        goals: makes a goal from a request's words and picture (RGB [H, W, 3] or None); an InputError says why not.
        hosts: names under which the server may be addressed; others are refused, as a name that an attacker makes point
            to this machine would be.
        token: must come with each request if it is not empty.
    """
    app = web.Application(client_max_size=MAX_UPLOAD, middlewares=[guard(hosts, token)])
    server = Server(view, goals)
    app.add_routes([
        web.get('/', server.page('index.html', 'text/html')), web.get('/view.js', server.page('view.js',
                                                                                            'text/javascript')),
        web.get('/view.css', server.page('view.css', 'text/css')),
        web.get('/state', server.state), web.get('/overlay', server.stream(view.overlay)),
        web.get('/plan', server.stream(view.plan)), web.get('/image.png', server.image),
        web.post('/stop', server.stop), web.post('/goal', server.goal)])
    app.on_shutdown.append(server.close)
    return app


def guard(hosts: tuple[str, ...], token: str) -> Any:
    """Refuses other host names, a wrong token, and changes that another site's page asks for."""
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.headers.get('Host', '')
        name = name.rpartition(':')[0] if name.rpartition(':')[2].isdigit() else name
        if name not in hosts:
            return refused(403, f'host name: expected one of {", ".join(hosts)}, got {name[:100]}')
        given = request.headers.get('X-Token') or request.query.get('token', '')
        if token and request.path not in OPEN and not hmac.compare_digest(given.encode(), token.encode()):
            return refused(401, 'token: expected that of the address that was printed')
        if request.method != 'GET' and MARK not in request.headers:
            return refused(403, f'header: expected {MARK}')
        try:
            response = await handler(request)
        except InputError as error:
            return refused(400, str(error))
        if not response.prepared:
            response.headers.update({'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff',
                                     'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer'})
        return response

    return middleware


def refused(status: int, reason: str) -> web.Response:
    """An error as JSON."""
    return web.json_response({'error': reason}, status=status)


class Server:
    """The handlers."""

    def __init__(self, view: Any, goals: Callable[[dict[str, Any], Any], Any]) -> None:
        self._view, self._goals = view, goals
        self._streams = 0
        self._closing = asyncio.Event()

    def page(self, name: str, kind: str) -> Handler:
        """A file of the page."""
        async def handler(_: web.Request) -> web.Response:
            return web.Response(text=(PAGE / name).read_text(), content_type=kind)

        return handler

    async def state(self, _: web.Request) -> web.Response:
        """Entities, nodes and the goal under way."""
        return web.json_response(self._view.state())

    def stream(self, pictures: Any) -> Handler:
        """Pictures as they come (multipart/x-mixed-replace), until the reader goes."""
        async def handler(request: web.Request) -> web.StreamResponse:
            if self._streams >= MAX_STREAMS:
                return refused(503, f'streams: expected at most {MAX_STREAMS} at once')
            self._streams += 1
            try:
                return await self._send(request, pictures)
            finally:
                self._streams -= 1

        return handler

    async def _send(self, request: web.Request, pictures: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={'Content-Type': 'multipart/x-mixed-replace; boundary=frame',
                                               'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff'})
        await response.prepare(request)
        sent = 0
        with contextlib.suppress(ConnectionError):  # the reader has gone
            await response.write(b'--frame\r\n')
            while not self._closing.is_set():
                if pictures.number != sent:
                    sent = pictures.number
                    jpeg = await asyncio.to_thread(pictures.jpeg)
                    if jpeg:  # the boundary comes with it: Chromium shows a picture when it has seen the next boundary
                        head = f'Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n'
                        await response.write(head.encode() + jpeg + b'\r\n--frame\r\n')
                elif request.transport is None or request.transport.is_closing():
                    break
                await asyncio.sleep(0.03)
        return response

    async def image(self, _: web.Request) -> web.Response:
        """The camera's next image as PNG, to be kept as a goal."""
        pixels = await asyncio.to_thread(self._view.camera_image, 5.0)
        if pixels is None:
            return refused(504, 'image: expected one of the camera in 5 s')
        data = await asyncio.to_thread(lambda: cv2.imencode('.png', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])
        return web.Response(body=data.tobytes(), content_type='image/png')

    async def stop(self, _: web.Request) -> web.Response:
        """Cancel everything."""
        return web.json_response({'cancelled': self._view.stop()})

    async def goal(self, request: web.Request) -> web.Response:
        """A goal: a form with a picture `image`, or JSON with `places` or `relations`; either with `max_plans`."""
        words: dict[str, Any] = {}
        picture = None
        if request.content_type == 'multipart/form-data':
            form = await request.post()
            file = form.get('image')
            if not isinstance(file, web.FileField):
                raise InputError('goal', 'a form with a file `image`', 'none')
            data = file.file.read(MAX_UPLOAD + 1)
            picture = await asyncio.to_thread(decode_picture, data, 'image')
            words = {'max_plans': form['max_plans']} if 'max_plans' in form else {}
        else:
            try:
                words = json.loads(await request.text())
            except ValueError as e:
                raise InputError('goal', 'JSON, or a form with a picture', e) from e
            if not isinstance(words, dict):
                raise InputError('goal', 'a JSON object', type(words).__name__)
        self._view.build(self._goals(words, picture))
        return web.json_response({'sent': True}, status=202)

    async def close(self, _: web.Application) -> None:
        """End the streams."""
        self._closing.set()
