// httpbin, unmodified, behind the gateway. It can answer with any header it is asked for, and so has a login handler
// without knowing it: /response-headers?portcullis-login=alice.
//
//   PORTCULLIS_BIN=../../target/debug/portcullis node --test
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';

import { startProgram } from '../browser/program.mjs';
import { Client } from './client.mjs';
import { startGateway } from './gateway.mjs';

const VENV = resolve(process.env.PORTCULLIS_TEST_VENV ?? '../../.test/python');

const RULES = `
[[login]]
path = "/response-headers"
methods = ["GET"]
[[logout]]
path = "/logout"
redirect = "/html"
redirect_allow = ["/bye"]
[[logout]]
path = "/anything/logout-everywhere"
scope = "user"
forward = true
[[route]]
path = "/html"
auth = "none"
[[route]]
path = "/anything/optional"
auth = "optional"
`;

let httpbin;
let gateway;
let scratch;
const tokens = new Set();

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'portcullis-httpbin-'));
  httpbin = await startProgram(
    join(VENV, 'bin', 'gunicorn'),
    ['--worker-class', 'gthread', '--threads', '16', '--bind', '127.0.0.1:0', 'httpbin:app'],
    { ready: /Listening at: (http:\S+)[^]*Booting worker/, cwd: scratch, env: { ...process.env, HOME: scratch } },
  );
  gateway = await startGateway(httpbin.ready[1], RULES);
}, { timeout: 120_000 });

after(async () => {
  await gateway?.stop();
  await httpbin?.stop();
  await rm(scratch, { recursive: true, force: true });
});

describe('httpbin', { timeout: 180_000 }, () => {
  test('nobody gets in without a session', async () => {
    const stranger = new Client(gateway.url);
    assert.equal((await stranger.get('/headers')).status, 401);
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD']) {
      assert.equal((await stranger.send(method, '/anything')).status, 401, method);
    }
    const navigation = await stranger.get('/headers', { headers: { accept: 'text/html', 'sec-fetch-mode': 'navigate' } });
    assert.ok([302, 303].includes(navigation.status));
    assert.equal(new URL(navigation.headers.location, gateway.url).pathname, '/response-headers');
    assert.equal((await stranger.get('/html')).status, 200, 'a public route is closed');
  });

  test('a login by an answer of the app; the app knows the user, and no cookie of the gateway', async () => {
    const client = new Client(gateway.url);
    const login = await client.get('/response-headers?portcullis-login=alice');
    assert.equal(login.status, 200);
    assert.equal(login.headers['portcullis-login'], undefined);
    assert.deepEqual([...client.cookies.keys()].sort(), ['sAccessToken', 'sRefreshToken']);

    const { headers } = (await client.get('/headers')).json();
    assert.equal(headers['X-User-Id'], 'alice');
    assert.equal(headers.Cookie, undefined);
    for (const token of client.cookies.values()) assert.ok(!JSON.stringify(headers).includes(token));
    assert.equal((await gateway.sessionsOf('alice')).length, 1);
    await client.post('/logout');
    assert.deepEqual(await gateway.sessionsOf('alice'), []);
  });

  test('what is not a login does not log in', async () => {
    const stranger = new Client(gateway.url);
    const failed = await stranger.get('/response-headers?x=portcullis-login');
    assert.equal(failed.status, 200);
    assert.equal(stranger.cookies.size, 0);

    const alice = await logIn('alice');
    const posted = await alice.post('/response-headers?portcullis-login=mallory');
    assert.equal(posted.status, 200);
    assert.equal(posted.headers['portcullis-login'], undefined, 'the header left the gateway');
    assert.equal(posted.headers['set-cookie'], undefined);
    assert.equal(await userSeenBy(alice), 'alice');
    assert.deepEqual(await gateway.sessionsOf('mallory'), []);
  });

  test('a client cannot say who it is', async () => {
    const alice = await logIn('alice');
    for (const name of ['x-user-id', 'X-USER-ID', 'x_user_id']) {
      const headers = { [name]: 'mallory' };
      assert.equal(await userSeenBy(alice, headers), 'alice', name);
      const seen = await new Client(gateway.url).get('/anything/optional', { headers });
      assert.equal(seen.status, 200);
      assert.ok(!seen.body.toString().includes('mallory'), name);
    }
  });

  test('every method arrives, with its query and body', async () => {
    const alice = await logIn('alice');
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const body = JSON.stringify({ method });
      const answer = await alice.send(method, `/${method.toLowerCase()}?a=1&a=%C3%A9+%2F`, {
        headers: { 'content-type': 'application/json', 'content-length': body.length },
        body,
      });
      assert.equal(answer.status, 200, method);
      assert.deepEqual(answer.json().args, { a: ['1', 'é /'] });
      assert.deepEqual(answer.json().json, { method });
    }
    const head = await alice.send('HEAD', '/bytes/1234');
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '1234', 0]);
  });

  test('bodies of every framing arrive whole', async () => {
    const alice = await logIn('alice');
    const body = randomBytes(3 * 1024 * 1024).toString('base64');
    const framings = {
      'content-length': { body, headers: { 'content-type': 'text/plain', 'content-length': body.length } },
      chunked: { body: pieces(body, 100_000), headers: { 'content-type': 'text/plain', 'transfer-encoding': 'chunked' } },
      expected: { body, headers: { 'content-type': 'text/plain', 'content-length': body.length, expect: '100-continue' } },
    };
    for (const [framing, options] of Object.entries(framings)) {
      const answer = await alice.post('/anything', options);
      assert.equal(answer.status, 200, framing);
      assert.equal(digest(answer.json().data), digest(body), framing);
    }
  });

  test('answers arrive as the app sent them', async () => {
    const alice = await logIn('alice');
    const stream = await alice.get('/stream/20');
    assert.equal(stream.body.toString().trim().split('\n').length, 20);

    const unpacked = { gzip: gunzipSync, deflate: inflateSync, brotli: brotliDecompressSync };
    for (const [name, unpack] of Object.entries(unpacked)) {
      const answer = await alice.get(`/${name}`, { headers: { 'accept-encoding': 'gzip, deflate, br' } });
      const said = JSON.parse(unpack(answer.body).toString());
      assert.equal(said.headers['X-User-Id'], 'alice', name);
    }

    for (const status of [201, 204, 304, 400, 401, 403, 404, 418, 500, 503]) {
      assert.equal((await alice.get(`/status/${status}`)).status, status);
    }
    assert.equal(await userSeenBy(alice), 'alice', 'a 401 of the app ended the session');

    const redirect = await alice.get('/redirect/2');
    assert.deepEqual([redirect.status, redirect.headers.location], [302, '/relative-redirect/1']);
    const absolute = await alice.get('/absolute-redirect/1');
    assert.equal(absolute.headers.location, `${gateway.url}/get`, 'the app does not know its public address');

    const range = await alice.get('/range/1000', { headers: { range: 'bytes=10-19' } });
    assert.deepEqual([range.status, range.headers['content-range'], range.body.length], [206, 'bytes 10-19/1000', 10]);
    const cached = await alice.get('/etag/abc', { headers: { 'if-none-match': '"abc"' } });
    assert.equal(cached.status, 304);
  });

  test('cookies of the app pass in both directions', async () => {
    const alice = await logIn('alice');
    const set = await alice.get('/cookies/set?theme=dark&lang=de');
    assert.equal(set.status, 302);
    assert.deepEqual((await alice.get('/cookies')).json().cookies, { lang: 'de', theme: 'dark' });
    await alice.get('/cookies/delete?lang');
    assert.deepEqual((await alice.get('/cookies')).json().cookies, { theme: 'dark' });
    assert.equal(await userSeenBy(alice), 'alice');
  });

  test('the answer of the app cannot replace the session cookies', async () => {
    const alice = await logIn('alice');
    const before = new Map(alice.cookies);
    await alice.get('/cookies/set?sAccessToken=forged&sRefreshToken=forged');
    assert.deepEqual(alice.cookies, before);
  });

  test('parallel requests of several users are not mixed up', async () => {
    const clients = await Promise.all(['u0', 'u1', 'u2', 'u3'].map(logIn));
    await Promise.all(Array.from({ length: 80 }, async (_, index) => {
      const user = index % clients.length;
      const answer = await clients[user].post(`/anything/${index}`, { body: `body ${index}` });
      const { url, data, headers } = answer.json();
      assert.deepEqual(
        [new URL(url).pathname, data, headers['X-User-Id']],
        [`/anything/${index}`, `body ${index}`, `u${user}`],
      );
    }));
  });

  // A short answer can be as slow as a long one.
  for (const size of [1_000, 1_000_000]) {
    test(`a logout refuses the session at once and ends its slow answer of ${size} bytes`, async () => {
      const alice = await logIn('alice');
      const bob = await logIn('bob');
      const kept = new Map(alice.cookies);
      const drip = `/drip?duration=${size / 10}&numbytes=${size}`;
      const [download, downloadOfBob] = await Promise.all([alice, bob].map((client) => client.open('GET', drip)));
      const watched = watch(download);
      const watchedOfBob = watch(downloadOfBob);
      await watched.bytes(3);
      await watchedOfBob.bytes(3);

      const logout = await alice.post('/logout');
      assert.equal(logout.status, 200);
      const atLogout = watched.received();
      assert.equal(alice.cookies.size, 0, 'cookies are left');
      alice.cookies = kept;
      assert.equal((await alice.get('/headers')).status, 401, 'cookies that were kept aside work again');

      const { cut, received } = await watched.end;
      assert.ok(cut, 'the download ended as if it were complete');
      assert.ok(received <= atLogout + 1, `${received - atLogout} bytes were sent after the logout`);

      await watchedOfBob.bytes(watchedOfBob.received() + 3);
      assert.equal(await userSeenBy(bob), 'bob', 'another user was logged out');
      downloadOfBob.destroy();
    });
  }

  test('a logout on all devices that the app hears of', async () => {
    const [one, two] = [await logIn('carol'), await logIn('carol')];
    const [cookiesOfOne, cookiesOfTwo] = [new Map(one.cookies), new Map(two.cookies)];
    const answer = await one.post('/anything/logout-everywhere', { body: 'bye' });
    assert.equal(answer.status, 200);
    assert.equal(answer.json().data, 'bye', 'the app was not asked');
    for (const [client, cookies] of [[one, cookiesOfOne], [two, cookiesOfTwo]]) {
      client.cookies = cookies;
      assert.equal((await client.get('/headers')).status, 401);
    }
    assert.deepEqual(await gateway.sessionsOf('carol'), []);
    assert.equal((await one.post('/anything/logout-everywhere')).status, 200, 'a second try failed');
  });

  test('a logout by a page redirects to what the configuration allows', async () => {
    const headers = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': 'same-origin' };
    const targets = { '/logout': '/html', '/logout?redirect=/bye': '/bye', '/logout?redirect=https://evil.example/': '/html' };
    for (const [path, location] of Object.entries(targets)) {
      const alice = await logIn('alice');
      const answer = await alice.post(path, { headers });
      assert.deepEqual([answer.status, answer.headers.location], [303, location], path);
      assert.equal(alice.cookies.size, 0);
    }
  });

  test('a foreign page changes nothing and logs nobody out', async () => {
    const alice = await logIn('alice');
    const foreign = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };
    for (const path of ['/logout', '/anything/logout-everywhere', '/post', '/auth/signout']) {
      const answer = await alice.post(path, { headers: foreign });
      assert.equal(answer.status, 403, path);
    }
    assert.equal(await userSeenBy(alice), 'alice');
  });

  test('no token of this run is in the log', () => {
    assert.match(gateway.log(), /\/headers/, 'requests are not logged');
    assert.ok(tokens.size > 20);
    for (const token of tokens) assert.ok(!gateway.log().includes(token), 'a token is in the log');
    assert.doesNotMatch(gateway.log(), /panicked/);
  });
});

async function logIn(user) {
  const client = new Client(gateway.url);
  assert.equal((await client.get(`/response-headers?portcullis-login=${user}`)).status, 200);
  for (const token of client.cookies.values()) tokens.add(token);
  return client;
}

async function userSeenBy(client, headers) {
  const answer = await client.get('/headers', { headers });
  assert.equal(answer.status, 200);
  return answer.json().headers['X-User-Id'];
}

// Counts the bytes of an answer while they arrive.
function watch(answer) {
  let received = 0;
  let wake = () => {};
  answer.on('data', (chunk) => {
    received += chunk.length;
    wake();
  });
  const end = new Promise((ended) => {
    answer.on('error', () => {});
    answer.on('close', () => ended({ received, cut: !answer.complete }));
  });
  const bytes = async (count) => {
    while (received < count) await new Promise((more) => { wake = more; });
  };
  return { end, bytes, received: () => received };
}

function pieces(text, length) {
  return Array.from({ length: Math.ceil(text.length / length) }, (_, index) => text.slice(index * length, (index + 1) * length));
}

function digest(text) {
  return createHash('sha256').update(text).digest('hex');
}
