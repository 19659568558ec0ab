"""The web page's server: who is let in, what is taken, what is sent. Over real HTTP; DDS is in test/ros."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp import ClientSession, FormData, web
from aiohttp.test_utils import TestClient, TestServer
from std_msgs.msg import Header

from object_centric_ros.errors import InputError
from object_centric_ros.nodes.images import from_array
from object_centric_ros.nodes.view import goal_from
from object_centric_ros.nodes.view_node import Pictures, number
from object_centric_ros.nodes.view_server import MARK, MAX_STREAMS, MAX_UPLOAD, make_app

RGB = np.full((48, 64, 3), (200, 40, 90), np.uint8)
PNG = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
OWN = {MARK: '1'}


class View:
    """What the server needs of a ViewNode."""

    def __init__(self) -> None:
        self.overlay, self.plan = Pictures(), Pictures()
        self.goals: list[Any] = []

    def state(self) -> dict[str, Any]:
        return {'entities': {'rows': []}}

    def camera_image(self, patience: float) -> np.ndarray:
        return RGB

    def stop(self) -> list[str]:
        return ['build_goal']

    def build(self, goal: Any) -> None:
        self.goals.append(goal)


def serve(steps: Callable[[TestClient, View], Awaitable[None]], token: str = '') -> None:
    """Run some steps against a server."""
    async def run() -> None:
        view = View()
        app = make_app(view, goal_from, ('127.0.0.1', 'localhost'), token)
        async with TestClient(TestServer(app)) as client:
            await asyncio.wait_for(steps(client, view), 60)

    asyncio.run(run())


def form(data: bytes, name: str = 'image', **words: str) -> FormData:
    out = FormData(words)
    out.add_field(name, data, filename='goal.png', content_type='image/png')
    return out


def test_the_page_its_parts_and_what_they_may_do():
    async def steps(client: TestClient, view: View) -> None:
        for path, kind in (('/', 'text/html'), ('/view.js', 'text/javascript'), ('/view.css', 'text/css')):
            answer = await client.get(path)
            assert (answer.status, answer.content_type) == (200, kind) and await answer.text()
            assert "default-src 'none'" in answer.headers['Content-Security-Policy']
            assert 'unsafe' not in answer.headers['Content-Security-Policy']
        assert await (await client.get('/state')).json() == {'entities': {'rows': []}}
        assert (await client.get('/../view.py')).status == 404
        picture = await (await client.get('/image.png')).read()
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(picture, np.uint8), 1)[..., ::-1], RGB)

    serve(steps)


def test_other_host_names_and_other_sites_pages_are_refused():
    async def steps(client: TestClient, view: View) -> None:
        answer = await client.get('/state', headers={'Host': 'attacker.example:8484'})
        assert answer.status == 403 and 'host name' in (await answer.json())['error']
        for path in ('/stop', '/goal'):
            assert (await client.post(path, data=form(PNG))).status == 403  # as a form of another page is
            assert (await client.options(path, headers={'Origin': 'http://attacker.example',
                                                        'Access-Control-Request-Headers': MARK})).status in (403, 405)
        assert not view.goals
        assert await (await client.post('/stop', headers=OWN)).json() == {'cancelled': ['build_goal']}
        assert (await client.get('/stop')).status == 405

    serve(steps)


def test_where_others_can_reach_it_the_token_is_needed():
    async def steps(client: TestClient, view: View) -> None:
        assert (await client.get('/')).status == (await client.get('/view.js')).status == 200
        assert (await client.get('/state')).status == (await client.get('/overlay')).status == 401
        assert (await client.get('/state?token=wrong')).status == 401
        assert (await client.get('/state?token=right')).status == 200
        assert (await client.post('/stop', headers=OWN)).status == 401
        assert (await client.post('/stop', headers=OWN | {'X-Token': 'right'})).status == 200

    serve(steps, token='right')


def test_goals_as_pictures_places_and_relations():
    async def steps(client: TestClient, view: View) -> None:
        assert (await client.post('/goal', data=form(PNG, max_plans='3'), headers=OWN)).status == 202
        words = {'places': [{'id': 2, 'x': 0.1, 'y': -0.05}]}
        assert (await client.post('/goal', json=words, headers=OWN)).status == 202
        words = {'relations': [{'kind': 'on', 'id': 1, 'other': 2}]}
        assert (await client.post('/goal', json=words, headers=OWN)).status == 202
        image, places, relations = view.goals
        assert (image.image.width, image.image.height, image.max_plans) == (64, 48, 3)
        assert bytes(image.image.data) == RGB.tobytes()
        assert (places.places[0].entity_id, places.places[0].place.y) == (2, -0.05)
        assert (relations.relations[0].kind, relations.relations[0].other_id) == ('on', 2)

    serve(steps)


def test_what_is_no_goal_is_one_clear_error():
    big = bytearray(PNG)
    big[16:24] = (100_000).to_bytes(4, 'big') * 2

    async def steps(client: TestClient, view: View) -> None:
        for data, words in ((b'GIF89a' + bytes(50), 'JPEG or PNG'), (PNG[:60], 'compressed image'),
                            (bytes(big), '100000x100000'), (b'', 'JPEG or PNG')):
            answer = await client.post('/goal', data=form(data), headers=OWN)
            assert answer.status == 400 and words in (await answer.json())['error'], words
        answer = await client.post('/goal', data=form(PNG, name='other'), headers=OWN)
        assert answer.status == 400 and 'file `image`' in (await answer.json())['error']
        for body in ('not json', '[1]', '{}', '{"places": [{"id": 1}]}', '{"places": [{"id": -1, "x": 0, "y": 0}]}',
                     '{"places": [{"id": 1, "x": 0, "y": 0}], "relations": [{"kind": "on", "id": 1, "other": 2}]}',
                     '{"paths": ["/etc/passwd"]}', '{"relations": [{"kind": "beside itself", "id": 1}]}',
                     '{"places": [{"id": 1, "x": NaN, "y": 0}]}',
                     '{"max_plans": -1, "places": [{"id": 1, "x": 0, "y": 0}]}',
                     '{"places": [' + ','.join(['{"id": 1, "x": 0, "y": 0}'] * 65) + ']}'):
            answer = await client.post('/goal', data=body, headers=OWN | {'Content-Type': 'application/json'})
            assert answer.status == 400 and 'expected' in (await answer.json())['error'], body
        assert (await client.post('/goal', data=form(bytes(MAX_UPLOAD + 1000)), headers=OWN)).status == 413
        assert not view.goals

    serve(steps)


async def part(reader: Any) -> np.ndarray:
    """The next picture of a stream."""
    headers = {}
    while (line := (await reader.readline()).strip()) or not headers:
        name, _, value = line.decode().partition(': ')
        headers[name] = value
    data = await reader.readexactly(int(headers['Content-Length']))
    await reader.readline()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_streams_show_each_new_picture_and_are_not_endless_in_number():
    async def steps(client: TestClient, view: View) -> None:
        view.overlay.put(from_array(RGB, Header(), 'rgb8'))
        async with client.get('/overlay') as answer:
            assert answer.content_type == 'multipart/x-mixed-replace'
            assert np.abs((await part(answer.content)).astype(int) - RGB).max() < 12
            spoiled = from_array(RGB, Header(), 'rgb8')
            spoiled.encoding = '32FC1'
            view.overlay.put(spoiled)  # left out
            await asyncio.sleep(0.1)
            view.overlay.put(from_array(RGB[..., ::-1].copy(), Header(), 'rgb8'))
            assert np.abs((await part(answer.content)).astype(int) - RGB[..., ::-1]).max() < 12
        async with ClientSession() as session:
            url = client.make_url('/plan')
            streams = [await session.get(url) for _ in range(MAX_STREAMS + 1)]
            assert sorted(s.status for s in streams)[-1] == 503
            for s in streams:
                s.close()

    serve(steps)


def test_numbers_and_errors_of_the_view():
    assert number(float('nan')) is None and number(0.123456789) == 0.12346
    with pytest.raises(InputError, match='one of places'):
        goal_from({}, None)
    assert isinstance(make_app(SimpleNamespace(overlay=Pictures(), plan=Pictures()), goal_from, ()), web.Application)
