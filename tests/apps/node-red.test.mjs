// Node-RED, unmodified and without a login of its own, behind the gateway: a person in a real browser uses its editor,
// which lives on a WebSocket, until an operator ends the session from the command line.
//
//   PORTCULLIS_BIN=../../target/debug/portcullis node --test
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';

import { launchChromium } from '../browser/chromium.mjs';
import { startProgram } from '../browser/program.mjs';
import { Client } from './client.mjs';
import { startGateway } from './gateway.mjs';

const PATIENCE_MS = 60_000;
const NODE_RED = resolve('node_modules/.bin/node-red');

// One flow ticks into the editor's debug sidebar, one answers who the app thinks is asking.
const FLOWS = [
  { id: 'tab', type: 'tab', label: 'Behind the gateway' },
  { id: 'tick', type: 'inject', z: 'tab', name: 'tick', repeat: '0.5', once: true, payload: 'tick-tock', payloadType: 'str', props: [{ p: 'payload' }], x: 100, y: 80, wires: [['shown']] },
  { id: 'shown', type: 'debug', z: 'tab', name: 'shown', active: true, tosidebar: true, complete: 'payload', x: 300, y: 80, wires: [] },
  { id: 'asked', type: 'http in', z: 'tab', name: '', url: '/whoami', method: 'get', x: 100, y: 160, wires: [['told']] },
  { id: 'told', type: 'function', z: 'tab', name: '', func: 'msg.payload = msg.req.headers; return msg;', outputs: 1, x: 300, y: 160, wires: [['answer']] },
  { id: 'answer', type: 'http response', z: 'tab', name: '', x: 500, y: 160, wires: [] },
];

let nodeRed;
let gateway;
let chrome;
let scratch;
let contexts = [];

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'portcullis-node-red-'));
  const port = await freePort();
  nodeRed = await startProgram(
    NODE_RED,
    ['--userDir', scratch, '--port', String(port), '-D', 'uiHost=127.0.0.1', '-D', 'telemetry.enabled=false', '-D', 'editorTheme.tours=false'],
    { ready: /Server now running at[^]*Started flows/, cwd: scratch, env: { ...process.env, HOME: scratch } },
  );
  gateway = await startGateway(`http://127.0.0.1:${port}`, '[[logout]]\npath = "/logout"\n');
  chrome = await launchChromium();
}, { timeout: 120_000 });

after(async () => {
  await chrome?.close();
  await gateway?.stop();
  await nodeRed?.stop();
  await rm(scratch, { recursive: true, force: true });
});

afterEach(async () => {
  await Promise.all(contexts.map((context) => context.close()));
  contexts = [];
});

describe('Node-RED', { timeout: 300_000 }, () => {
  test('nobody gets in without a session', async () => {
    const stranger = new Client(gateway.url);
    for (const path of ['/', '/flows', '/settings', '/comms', '/red/red.min.js']) {
      assert.equal((await stranger.get(path)).status, 401, path);
    }
    assert.equal(await statusOfHandshake(stranger), 401);
  });

  test('the editor works, and its deploy reaches the app', async () => {
    const { page, complaints } = await openEditor('alice');
    await deploy(page);
    await page.reload();
    await page.getByText('Behind the gateway').first().waitFor();

    const told = await page.evaluate(() => fetch('/whoami').then((answer) => answer.json()));
    assert.equal(told['x-user-id'], 'alice');
    assert.doesNotMatch(told.cookie ?? '', /sAccessToken|sRefreshToken/);
    assert.deepEqual(complaints, []);
  });

  test('a revocation from the command line ends the editor while the user looks on', async () => {
    const alice = await openEditor('alice');
    const bob = await openEditor('bob');
    await deploy(alice.page);
    await showDebugSidebar(alice.page);
    await showDebugSidebar(bob.page);
    await seesTicks(alice.page);
    await seesTicks(bob.page);
    assert.deepEqual(await closedSockets(alice.page), []);

    const { ended } = await gateway.revokeUser('alice');
    assert.ok(ended.includes(alice.handle));

    await alice.page.waitForFunction(() => globalThis.closedSockets.length > 0);
    const [first] = await closedSockets(alice.page);
    assert.deepEqual([new URL(first.url).pathname, first.code], ['/comms', 4401]);
    await alice.page.getByText('Lost connection to server').first().waitFor();

    assert.equal(await alice.page.evaluate(() => fetch('/flows').then(({ status }) => status)), 401);
    const refused = await alice.page.goto(gateway.url);
    assert.equal(refused.status(), 401);
    assert.equal(await alice.page.locator('#red-ui-editor').count(), 0);
    const again = new Client(gateway.url);
    for (const cookie of alice.setCookies) again.store(cookie);
    assert.equal((await again.get('/flows')).status, 401, 'cookies that were kept aside work again');
    assert.equal(await statusOfHandshake(again), 401);
    assert.deepEqual(await gateway.sessionsOf('alice'), []);

    await seesTicks(bob.page);
    assert.deepEqual(await closedSockets(bob.page), [], 'another user was cut off');
  });

  test('a logout in one tab ends the editor in the other', async () => {
    const { page, context } = await openEditor('carol');
    const other = await context.newPage();
    await other.goto(`${gateway.url}/settings`);
    const logout = await other.evaluate(() => fetch('/logout', { method: 'POST' }).then(({ status }) => status));
    assert.equal(logout, 200);
    await page.waitForFunction(() => globalThis.closedSockets.length > 0);
    assert.equal((await closedSockets(page))[0].code, 4401);
    assert.deepEqual((await context.cookies()).filter(({ name }) => /^s.*Token$/.test(name)), []);
  });

  test('a foreign page opens no WebSocket with the session', async () => {
    const { set_cookie: setCookies } = await gateway.openSession('dave');
    const dave = new Client(gateway.url);
    for (const cookie of setCookies) dave.store(cookie);
    assert.equal(await statusOfHandshake(dave), 101);
    assert.equal(await statusOfHandshake(dave, { origin: 'https://evil.example' }), 403);
  });
});

// A browser with a session that the command line has opened, in the editor and connected.
async function openEditor(user) {
  const { handle, set_cookie: setCookies } = await gateway.openSession(user);
  const context = await chrome.newContext({ viewport: { width: 1400, height: 800 } });
  context.setDefaultTimeout(PATIENCE_MS);
  contexts.push(context);
  await context.addCookies(setCookies.map((cookie) => {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
    return { name, value, url: gateway.url, httpOnly: /;\s*HttpOnly/i.test(cookie), sameSite: 'Lax' };
  }));
  await context.addInitScript(recordClosedSockets);
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('response', (answer) => {
    if (answer.url().startsWith(gateway.url) && answer.status() >= 400) complaints.push(`${answer.status()} ${answer.url()}`);
  });
  const connected = page.waitForEvent('websocket', (socket) => socket.url().endsWith('/comms'));
  await page.goto(gateway.url);
  await connected;
  await page.locator('#red-ui-header-button-deploy').waitFor();
  await page.locator('.red-ui-palette-node').first().waitFor();
  return { context, page, handle, setCookies, complaints };
}

// Runs in the page, before its own scripts.
function recordClosedSockets() {
  globalThis.closedSockets = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener('close', ({ code }) => globalThis.closedSockets.push({ url: this.url, code }));
    }
  };
}

function closedSockets(page) {
  return page.evaluate(() => globalThis.closedSockets);
}

async function deploy(page) {
  const status = await page.evaluate(async (flows) => {
    const headers = { 'content-type': 'application/json', 'node-red-api-version': 'v1' };
    const { status } = await fetch('/flows', { method: 'POST', headers, body: JSON.stringify(flows) });
    return status;
  }, FLOWS);
  assert.equal(status, 204);
}

async function showDebugSidebar(page) {
  await page.evaluate(() => globalThis.RED.sidebar.show('debug'));
}

// New messages arrive while one looks: they come by the WebSocket.
async function seesTicks(page) {
  const messages = page.locator('.red-ui-debug-msg', { hasText: 'tick-tock' });
  await messages.first().waitFor();
  const before = await messages.count();
  await page.waitForFunction(
    (count) => [...document.querySelectorAll('.red-ui-debug-msg')].filter((row) => row.textContent.includes('tick-tock')).length >= count + 2,
    before,
  );
}

async function statusOfHandshake(client, headers = {}) {
  const answer = await client.open('GET', '/comms', {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      ...headers,
    },
  });
  answer.destroy();
  return answer.statusCode;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
