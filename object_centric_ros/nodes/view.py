"""`object-centric view`: a local web page with the overlay, entities, plan, latency, a stop button and goals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import secrets
import signal
from typing import TYPE_CHECKING, Any

from object_centric_ros.errors import InputError
from object_centric_ros.nodes import transport

if TYPE_CHECKING:
    from object_centric_ros.action import BuildGoal

MAX_WISHES = 64
"""Places or relations in one goal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('--port', type=int, default=8484, help='0: any that is free')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on; where others can reach it, the '
                        'token in the address that is printed is needed')
    parser.add_argument('--namespace', default='', help='of the nodes')


def run(args: argparse.Namespace) -> int:
    """The command; ends with SIGINT or SIGTERM."""
    if not 0 <= args.port < 65536:
        raise InputError('--port', '0 to 65535', args.port)
    transport.prepare()
    import aiohttp  # noqa: F401  an optional package: say so before anything starts

    from object_centric_ros.nodes.view_node import spinning_view
    with spinning_view(args.namespace) as node, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(node, args.host, args.port))
    return 0


async def serve(node: Any, host: str, port: int) -> None:
    """Serve the page until a signal comes."""
    from aiohttp import web

    from object_centric_ros.nodes.view_server import LOOPBACK, make_app
    local = host in ('localhost', '127.0.0.1', '::1')
    token = '' if local else secrets.token_urlsafe(16)
    hosts = LOOPBACK if local else (*LOOPBACK, *own_names(host))
    runner = web.AppRunner(make_app(node, goal_from, hosts, token), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, shutdown_timeout=2.0).start()
        except OSError as e:
            raise InputError('--host, --port', 'an address that is free', e) from e
        bound = runner.addresses[0][1]
        shown = f'[{host}]' if ':' in host else host
        print(f'View: http://{shown}:{bound}/{"?token=" + token if token else ""}', flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


def own_names(host: str) -> tuple[str, ...]:
    """Names under which this machine may be addressed by others."""
    import socket
    names = {host, socket.gethostname(), socket.getfqdn()}
    if host in ('0.0.0.0', '::', ''):
        with contextlib.suppress(OSError):
            names |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return tuple(f'[{name}]' if ':' in name else name for name in sorted(names))


def goal_from(words: dict[str, Any], picture: Any) -> BuildGoal.Goal:
    """The goal that a request asks for: {'places': [{'id', 'x', 'y'}]}, {'relations': [{'kind', 'id', 'other'}]} or a
    picture [H, W, 3], and {'max_plans'}.

    Raises:
        InputError: none or more than one of them, unknown words, or values that make no sense.
    """
    from std_msgs.msg import Header

    from object_centric_ros.action import BuildGoal
    from object_centric_ros.msg import EntityPlace
    from object_centric_ros.nodes.images import from_array
    from object_centric_ros.nodes.messages import point, relation_to_message
    from object_centric_ros.planning.relations import Relation
    unknown = sorted(set(words) - {'places', 'relations', 'max_plans'})
    given = [k for k in ('places', 'relations') if words.get(k)] + (['image'] if picture is not None else [])
    if unknown or len(given) != 1:
        raise InputError('goal', 'one of places, relations and image',
                         ', '.join(map(str, [*given, *unknown])) or 'none')
    goal = BuildGoal.Goal()
    try:
        goal.max_plans = whole(words.get('max_plans') or 0, 0)
        for name in ('places', 'relations'):
            if len(words.get(name) or []) > MAX_WISHES:
                raise InputError(f'goal: {name}', f'at most {MAX_WISHES}', len(words[name]))
        goal.places = [EntityPlace(entity_id=whole(p['id']), place=point((finite(p['x']), finite(p['y']))))
                       for p in words.get('places') or []]
        goal.relations = [relation_to_message(Relation(
            str(r['kind']), whole(r['id']), whole(r['other']) if r.get('other') else None,
            tuple(map(finite, r['region'])) if r.get('region') else None))  # type: ignore[arg-type]
            for r in words.get('relations') or []]
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        raise InputError('goal', 'places with id, x, y (metres) or relations with kind, id, other', repr(e)) from e
    if picture is not None:
        goal.image = from_array(picture, Header(), 'rgb8')
    return goal


def whole(value: Any, low: int = 1) -> int:
    """An id or a count as messages hold them."""
    if not low <= int(value) < 2 ** 32:
        raise ValueError(f'{value}, not {low} or more')
    return int(value)


def finite(value: Any) -> float:
    """A number that is neither NaN nor infinite."""
    if not math.isfinite(float(value)):
        raise ValueError(f'{value}')
    return float(value)
