'use strict';
const token = new URLSearchParams(location.search).get('token') || '';
const query = token ? '?token=' + encodeURIComponent(token) : '';
const own = {'X-Object-Centric': '1', 'X-Token': token};
const at = (id) => document.getElementById(id);
const digits = (value, n) => value === null || value === undefined ? '-' : value.toFixed(n);

function row(cells, name) {
  const tr = document.createElement('tr');
  if (name) tr.className = name;
  for (const cell of cells) {
    const td = document.createElement('td');
    if (cell instanceof Node) td.append(cell); else td.textContent = cell;
    tr.append(td);
  }
  return tr;
}

function swatch(rgb) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 20;
  canvas.className = 'swatch';
  const context = canvas.getContext('2d');
  context.fillStyle = 'rgb(' + rgb.map((c) => Math.round(255 * (c || 0))).join(',') + ')';
  context.fillRect(0, 0, 20, 20);
  return canvas;
}

function show(state) {
  const {entities, nodes, build} = state;
  at('entities').tBodies[0].replaceChildren(...entities.rows.map((e) => row(
    [e.id, swatch(e.colour), ...e.position.map((x) => digits(x, 3)), digits(e.confidence, 2), e.visible ? 'yes' : 'no'],
    e.visible ? '' : 'hidden')));
  at('nodes').tBodies[0].replaceChildren(...Object.entries(nodes).map(([name, n]) => row(
    [name, n.age > 5 ? 'silent for ' + n.age + ' s' : n.level, n.message], n.age > 5 ? 'stale' : n.level)));
  const perception = (nodes.entity_perception || {}).latency || {};
  at('latency').textContent = entities.age === null ? 'no entities yet' :
    'image to here ' + digits(entities.latency_ms, 0) + ' ms, model ' + digits(entities.model_ms, 0) + ' ms; latency p50 ' +
    (perception.latency_p50_ms || '-') + ', p95 ' + (perception.latency_p95_ms || '-') + ' ms';
  const late = entities.age === null || entities.age > 2;
  at('health').textContent = late ? 'no entities' + (entities.age === null ? '' : ' for ' + entities.age + ' s') :
    entities.rows.length + ' entities, model ' + entities.model + (state.planner ? '' : '; no planner');
  at('health').className = late ? 'error' : state.planner ? '' : 'warn';
  let text = build.state === 'none' ? 'no goal yet' : build.state;
  if (build.state === 'building' && build.stage) {
    text += ': ' + build.stage + ', step ' + build.step + ', cost ' + digits(build.cost, 3);
    if (build.stage === 'act') text += ', entity ' + build.entity + ' to (' + build.place.map((x) => digits(x, 3)).join(', ') + ') m';
  }
  if (build.steps !== undefined) text += ' after ' + build.steps + ' commands';
  at('build').textContent = text + (build.message ? ': ' + build.message : '') + (build.remark ? ' (' + build.remark + ')' : '');
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {method: 'POST', headers: own, body});
    const said = await answer.json();
    if (!answer.ok) at('build').textContent = said.error;
  } catch (error) {
    at('health').textContent = 'the server does not answer: use the stop of the robot';
    at('health').className = 'error';
  }
}

async function look() {
  try {
    const answer = await fetch('state', {headers: own});
    if (!answer.ok) throw new Error((await answer.json()).error);
    show(await answer.json());
  } catch (error) {
    at('health').textContent = String(error.message || error);
    at('health').className = 'error';
  }
  setTimeout(look, 300);
}

addEventListener('load', () => {  // streams have no end: before this, the page would never count as loaded
  for (const name of ['overlay', 'plan']) {
    const stream = () => { at(name).src = name + query + (query ? '&' : '?') + 'at=' + Date.now(); };
    at(name).addEventListener('error', () => setTimeout(stream, 2000));  // the server was started again
    stream();
  }
});
at('keep').href = 'image.png' + query;
at('stop').addEventListener('click', () => post('stop'));
at('goal').addEventListener('submit', (event) => {
  event.preventDefault();
  const form = new FormData();
  form.append('image', at('picture').files[0]);
  post('goal', form);
});
look();
