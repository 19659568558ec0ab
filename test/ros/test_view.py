"""`object-centric view` over real DDS: what nodes publish is on the page, what the page asks for happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from harness import Nodes, Probe

from object_centric_ros.nodes.view_server import MARK
from object_centric_ros.simulation.tabletop import TabletopWorld

SEED = 3
POLICY = Path(__file__).resolve().parents[2] / 'config' / 'security' / 'policy.xml'


class Page:
    """A client of the page."""

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + 'state', timeout=60) as answer:
            return json.load(answer)

    def until(self, wanted: Callable[[dict[str, Any]], Any], what: str, timeout: float = 60.0) -> Any:
        end = time.monotonic() + timeout
        while not (found := wanted(state := self.state())):
            assert time.monotonic() < end, f'no {what} within {timeout} s: {state}'
            time.sleep(0.1)
        return found

    def post(self, path: str, body: bytes = b'', kind: str = 'application/json') -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(self.url + path, body, {MARK: '1', 'Content-Type': kind}, method='POST')
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def picture(self, path: str) -> np.ndarray:
        """The first picture of a stream."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            assert answer.readline() == b'--frame\r\n' and answer.readline() == b'Content-Type: image/jpeg\r\n'
            length = int(answer.readline().split(b':')[1])
            answer.readline()
            return cv2.imdecode(np.frombuffer(answer.read(length), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture(scope='module')
def page(nodes: Nodes, probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    nodes.start('tabletop_sim', seed=SEED, n_blocks=2, speed=2.0)
    nodes.start('entity_perception', scripted=True)
    nodes.start('pick_place_planner', scripted=True, server_timeout=30.0)
    log = tmp_path_factory.mktemp('view') / 'view.log'
    with log.open('wb') as out:
        process = subprocess.Popen([sys.executable, '-m', 'object_centric_ros', 'view', '--port', '0'], stdout=out,
                                   stderr=subprocess.STDOUT, env=os.environ | {'PYTHONUNBUFFERED': '1'})
    end = time.monotonic() + 60
    while 'View: http://127.0.0.1:' not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    yield Page(log.read_text().split('View: ')[1].split()[0])
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, log.read_text()


def ended(state: dict[str, Any]) -> dict[str, Any] | None:
    """The goal, once it is no longer being built."""
    return None if state['build']['state'] in ('sent', 'building') else state['build']


def target(page: Page) -> dict[str, Any]:
    """A goal: the first entity 10 cm farther to the middle."""
    entity = page.until(lambda s: len(s['entities']['rows']) == 2 and s['planner'] and s['entities']['rows'][0],
                        'two entities and a planner')
    x, y, _ = entity['position']
    return {'places': [{'id': entity['id'], 'x': x - 0.1 if x > 0 else x + 0.1, 'y': y - 0.05 if y > 0 else y + 0.05}]}


def test_entities_nodes_latency_and_overlay_are_shown(page: Page) -> None:
    target(page)
    state = page.until(lambda s: {'entity_perception', 'pick_place_planner', 'tabletop_sim'} <= set(s['nodes']) and s,
                       'diagnostics of three nodes')
    entities = state['entities']
    assert entities['frame'] == 'work_plane' and entities['age'] is not None and entities['latency_ms'] > 0
    assert {row['id'] for row in entities['rows']} == {1, 2}
    page.until(lambda s: 'latency_p95_ms' in s['nodes']['entity_perception']['latency'], 'latency percentiles')
    overlay = page.picture('overlay')
    assert overlay.shape == (240, 320, 3) and overlay.std() > 1
    with urllib.request.urlopen(page.url + 'image.png', timeout=60) as answer:
        camera = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    assert camera.shape == (480, 640, 3)


def test_stop_cancels_what_is_being_built(page: Page) -> None:
    goal = target(page)
    status, answer = page.post('goal', json.dumps(goal).encode())
    assert status == 202, answer
    page.until(lambda s: s['build'].get('stage') == 'act', 'command under way')
    assert page.post('goal', json.dumps(goal).encode())[0] == 400  # one at a time
    status, answer = page.post('stop')
    assert status == 200 and 'build_goal' in answer['cancelled'] and 'pick_place' in answer['cancelled']
    build = page.until(ended, 'end of the build')
    assert build['state'] in ('cancelled', 'given up') and build['message']


def test_an_uploaded_picture_is_built_and_its_plan_shown(page: Page) -> None:
    page.until(ended, 'idle planner')
    world = TabletopWorld()
    world.reset(SEED, 2)
    picture = cv2.imencode('.png', world.render_goal(world.goal(0, 1, False))[..., ::-1])[1].tobytes()
    body = (b'--edge\r\nContent-Disposition: form-data; name="image"; filename="goal.png"\r\n'
            b'Content-Type: image/png\r\n\r\n' + picture + b'\r\n--edge--\r\n')
    status, answer = page.post('goal', body, 'multipart/form-data; boundary=edge')
    assert status == 202, answer
    build = page.until(ended, 'end of the build', 120)
    assert build['state'] == 'reached', build
    assert page.picture('plan').shape[0] > 16


def test_the_security_policy_allows_all_that_the_nodes_use_and_keeps_the_arm_to_the_planner(page: Page, probe: Probe
                                                                                          ) -> None:
    target(page)
    graph, policy = probe.node, allowed(POLICY)
    looked_at = {'entity_perception': '/entities', 'pick_place_planner': '/plan', 'tabletop_sim': '/executed_actions',
                 'view': '/stop'}
    probe.wait(lambda: set(looked_at) <= set(graph.get_node_names()), 60, 'nodes in the graph')
    for node, publishes in looked_at.items():
        probe.wait(lambda n=node, p=publishes: p in dict(graph.get_publisher_names_and_types_by_node(n, '/')), 60,
                   f'{publishes} of {node}')
        used = {'publish': graph.get_publisher_names_and_types_by_node(node, '/'),
                'subscribe': graph.get_subscriber_names_and_types_by_node(node, '/'),
                'reply': graph.get_service_names_and_types_by_node(node, '/'),
                'request': graph.get_client_names_and_types_by_node(node, '/')}
        for what, names in used.items():
            assert {name for name, _ in names} <= policy[node][what], f'{node}: {what}'
    may_move = {node for node, rules in policy.items() if '/pick_place/_action/send_goal' in rules['request']}
    assert may_move == {'pick_place_planner', 'interaction_collector'}
    assert '/executed_actions' not in policy['pick_place_planner']['publish'] | policy['entity_perception']['publish']
    assert not any('/ground_truth/blocks' in rules['subscribe'] for rules in policy.values())


def allowed(path: Path) -> dict[str, dict[str, set[str]]]:
    """Names that each enclave may publish, subscribe to, serve and ask, actions taken apart as sros2 does."""
    out: dict[str, dict[str, set[str]]] = {}
    for profile in ElementTree.parse(path).iter('profile'):
        node = profile.attrib['node']
        rules = out.setdefault(node, {k: set() for k in ('publish', 'subscribe', 'reply', 'request')})
        for group in profile:
            (what, effect), = group.attrib.items()
            assert effect == 'ALLOW'
            for entry in group:
                text = entry.text or ''
                name = f'/{node}{text[1:]}' if text.startswith('~') else text if text.startswith('/') else f'/{text}'
                if what in ('call', 'execute'):
                    parts = {f'{name}/_action/{p}' for p in ('send_goal', 'cancel_goal', 'get_result')}
                    rules['request' if what == 'call' else 'reply'] |= parts
                    rules['subscribe' if what == 'call' else 'publish'] |= {f'{name}/_action/{p}'
                                                                           for p in ('feedback', 'status')}
                else:
                    rules[what].add(name)
    return out


@pytest.fixture
def browser() -> Iterator[Any]:
    """A Chromium of the system without a window, driven by the system's own driver; nothing is downloaded."""
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    program = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    driver = shutil.which('chromedriver')
    if not program or not driver:
        pytest.skip('no chromium, or no chromedriver (Debian: chromium, chromium-driver)')
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--window-size=1200,900'):
        options.add_argument(word)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


def test_a_browser_shows_it_builds_what_is_uploaded_and_has_a_stop(page: Page, browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait
    page.until(ended, 'idle planner')
    browser.get(page.url)
    wait = WebDriverWait(browser, 120)

    def text(name: str) -> str:
        return browser.find_element('id', name).text

    def drawn(name: str) -> bool:
        return browser.execute_script(f"return document.getElementById('{name}').naturalWidth > 0")
    wait.until(lambda _: len(browser.find_elements('css selector', '#entities tbody tr')) == 2)
    wait.until(lambda _: drawn('overlay') and len(browser.find_elements('css selector', '#nodes tbody tr')) >= 3)
    world, file = TabletopWorld(), tmp_path / 'goal.png'
    world.reset(SEED, 2)
    cv2.imwrite(str(file), world.render_goal(world.goal(1, 1, False))[..., ::-1])
    browser.find_element('id', 'picture').send_keys(str(file))
    browser.find_element('css selector', '#goal button').click()
    wait.until(lambda _: text('build').startswith('reached'))
    wait.until(lambda _: drawn('plan'))  # after which no other picture comes
    stops = page.state()['stops']
    browser.find_element('id', 'stop').click()
    page.until(lambda s: s['stops'] > stops, 'stop')
    severe = [line['message'] for line in browser.get_log('browser') if line['level'] == 'SEVERE']
    assert not [message for message in severe if 'favicon' not in message]
