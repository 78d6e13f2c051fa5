// The SuperTokens browser SDKs as npm has them, in a real browser, against the gateway. What is expected of each is its table
// of observed behaviour: rows C1 to C15 for 20.x, rows L1 to L11 for the generations before.
//
//   PORTCULLIS_BIN=../../target/debug/portcullis node --test
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { launchChromium } from '../browser/chromium.mjs';
import { startApp } from './app.mjs';
import { REFRESH, lockStore, openWorld } from './world.mjs';

const ME = '/api/me';
const CLEARED = { 'front-token': 'remove', 'id-refresh-token': 'remove' };
// What the SDKs of today say when an answer tells them that the session is over: first of the answer, then of the refresh that
// they do without.
const OUT = ['UNAUTHORISED true', 'UNAUTHORISED false'];
// Long enough for what a test does between two expiries, on a slow machine too.
const BRIEF = { access_token_lifetime: '2s' };

// `mark` is the cookie of its own by which an SDK knows that there is a session.
const SDKS = [
  { package: 'supertokens-website', page: 'website', mark: 'sFrontToken', isCurrent: true },
  { package: 'supertokens-web-js', page: 'web-js', mark: 'sFrontToken', isCurrent: true },
  { package: 'supertokens-website-5', page: 'website-5', mark: 'sIRTFrontend' },
  { package: 'supertokens-website-4', page: 'website-4', mark: 'sIRTFrontend', signOut: '/logout', refreshesWithoutAntiCsrf: true },
];

let app;
let chrome;

before(async () => {
  app = await startApp(SDKS.map(({ page }) => page));
  chrome = await launchChromium();
}, { timeout: 60_000 });

after(async () => {
  await chrome?.close();
  app?.stop();
});

test('the versions that are run are those that the documentation names', () => {
  const documentation = read('../../docs/protocol.md');
  for (const sdk of SDKS) {
    const { name, version } = manifest(sdk);
    assert.ok(documentation.includes(`| \`${name}\` | ${version} |`), `${name} ${version}`);
  }
});

describe('SDKs', { timeout: 300_000, concurrency: SDKS.length }, () => {
  for (const sdk of SDKS) {
    const { name, version } = manifest(sdk);
    describe(`${name} ${version}`, { timeout: 300_000, concurrency: 1 }, () => scenarios(sdk));
  }
});

function scenarios(sdk) {
  const scenario = (title, settings, story) => test(title, { timeout: 60_000 }, async (t) => {
    const world = await openWorld(t, { app, chrome, page: sdk.page }, settings);
    await story(world, await world.openTab());
  });
  const signOut = sdk.signOut ?? '/auth/signout';

  // C1, L1.
  scenario('a first visit asks for a refresh once at most', {}, async ({ wire }, tab) => {
    assert.deepEqual(await tab.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [...(sdk.isCurrent ? [`401 ${REFRESH}`] : []), `401 ${ME}`]);
    for (const { headers } of wire.refreshes()) assertCleared(headers);
    assert.equal(await tab.doesSessionExist(), false);

    assert.deepEqual(await tab.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [`401 ${ME}`]);
  });

  // C3, L2.
  scenario('a login, an expiry, a refresh and the call once more', BRIEF, async ({ wire }, tab) => {
    await tab.logIn('alice');
    assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
    if (sdk.page !== 'website-4') assert.equal(await tab.userId(), 'alice');
    assertEvents(await tab.events(), ['SESSION_CREATED']);
    for (const _ of ['once', 'again']) {
      await wire.expiry();
      wire.news();
      assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
      assert.deepEqual(wire.lines(), [`401 ${ME}`, `200 ${REFRESH}`, `200 ${ME}`]);
      assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
      assert.deepEqual(wire.lines(), [`200 ${ME}`]);
      assertEvents(await tab.events(), ['ACCESS_TOKEN_PAYLOAD_UPDATED', 'REFRESH_SESSION']);
    }
  });

  scenario('parallel calls at expiry share one refresh', BRIEF, async ({ wire }, tab) => {
    await tab.logIn('alice');
    await wire.expiry();
    wire.news();
    assert.deepEqual(await tab.calls(6, ME), Array(6).fill(200));
    const lines = wire.lines();
    assert.deepEqual(lines.filter((line) => line.endsWith(REFRESH)), [`200 ${REFRESH}`], lines.join());
  });

  scenario('two tabs share one session and one end', BRIEF, async ({ wire, openTab }, one) => {
    await one.logIn('alice');
    const two = await openTab();
    assert.equal(await two.doesSessionExist(), true);
    await wire.expiry();
    wire.news();
    const answers = await Promise.all([one, two].map((tab) => tab.call(ME)));
    assert.deepEqual(answers, Array(2).fill({ status: 200, user: 'alice' }));
    // The tabs share a refresh by what one writes into document.cookie or localStorage and the other reads: on a busy machine
    // the browser shows it late, and the other refreshes as well. Neither is refused.
    const lines = wire.lines();
    const refreshes = lines.filter((line) => line.endsWith(REFRESH));
    assert.ok(refreshes.length === 1 || refreshes.length === 2, lines.join());
    assert.ok(refreshes.every((line) => line === `200 ${REFRESH}`), lines.join());

    await one.signOut();
    wire.news();
    assert.equal(await two.doesSessionExist(), false);
    assert.deepEqual(await two.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [`401 ${ME}`]);
  });

  // C8, L9, L11.
  scenario('a sign-out ends the session here and there', {}, async ({ wire, gateway, cookie, send }, tab) => {
    await tab.logIn('alice');
    await tab.events();
    const kept = `sAccessToken=${await cookie('sAccessToken')}`;
    assert.equal((await send('GET', ME, { cookie: kept })).status, 200);
    wire.news();
    await tab.signOut();
    assert.deepEqual(wire.lines(), [`200 ${signOut}`]);
    assert.equal(await tab.doesSessionExist(), false);
    assertEvents(await tab.events(), ['SIGN_OUT']);
    assert.equal(await cookie('sAccessToken'), undefined);
    assert.equal(await cookie('sRefreshToken'), undefined);
    assert.deepEqual(await gateway.sessionsOf('alice'), []);
    assert.equal((await send('GET', ME, { cookie: kept })).status, 401);
    // C10, C11: a body that can be read as JSON, the second time too.
    assert.deepEqual(await (await send('POST', signOut, { cookie: kept })).json(), { status: 'OK' });

    assert.deepEqual(await tab.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [`401 ${ME}`]);
    await tab.logIn('alice');
    assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
  });

  scenario('a sign-out with an expired token', BRIEF, async ({ wire, gateway }, tab) => {
    await tab.logIn('alice');
    await wire.expiry();
    wire.news();
    await tab.signOut();
    // The SDKs of today ask for a fresh token by themselves.
    assert.deepEqual(wire.lines(), [...(sdk.isCurrent ? [`200 ${REFRESH}`] : []), `200 ${signOut}`]);
    assert.equal(await tab.doesSessionExist(), false);
    assert.deepEqual(await gateway.sessionsOf('alice'), []);
  });

  // C13 does not come about: the sign-out of whoever is out already is a sign-out.
  scenario('a sign-out after a revocation elsewhere', {}, async ({ wire, gateway }, tab) => {
    await tab.logIn('alice');
    await tab.events();
    await gateway.revokeUser('alice');
    wire.news();
    await tab.signOut();
    assert.deepEqual(wire.lines(), [`200 ${signOut}`]);
    assert.equal(await tab.doesSessionExist(), false);
    assertEvents(await tab.events(), ['SIGN_OUT']);
  });

  // C14, L4.
  scenario('who was revoked elsewhere is out at the next call, without a refresh', {}, async ({ wire, gateway }, tab) => {
    await tab.logIn('alice');
    await tab.events();
    await gateway.revokeUser('alice');
    wire.news();
    assert.deepEqual(await tab.call(ME), { status: 401 });
    const [answer, ...others] = wire.news();
    assert.deepEqual([answer.path, answer.status, others], [ME, 401, []]);
    assertCleared(answer.headers);
    assert.equal(await tab.doesSessionExist(), false);
    assertEvents(await tab.events(), OUT);
  });

  // C6, L3.
  scenario('who has no refresh token any more is out after one refresh', {}, async ({ wire, context }, tab) => {
    await tab.logIn('alice');
    await tab.events();
    await context.clearCookies({ name: /^s(Access|Refresh)Token$/ });
    wire.news();
    assert.deepEqual(await tab.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [`401 ${ME}`, `401 ${REFRESH}`]);
    assertCleared(wire.refreshes().at(-1).headers);
    assert.equal(await tab.doesSessionExist(), false);
    assertEvents(await tab.events(), ['UNAUTHORISED true']);
  });

  scenario('who comes back too late is out', { access_token_lifetime: '1s', refresh_token_lifetime: '2s' },
    async ({ wire }, tab) => {
      await tab.logIn('alice');
      await tab.events();
      await wire.expiry(1_000);
      wire.news();
      assert.deepEqual(await tab.call(ME), { status: 401 });
      // The mark of the older SDKs has the lifetime of the session: they know by themselves.
      assert.deepEqual(wire.lines(), [`401 ${ME}`, ...(sdk.isCurrent ? [`401 ${REFRESH}`] : [])]);
      assert.equal(await tab.doesSessionExist(), false);
      assertEvents(await tab.events(), ['UNAUTHORISED true']);
    });

  scenario('a stolen refresh token that comes back puts both out', BRIEF, async ({ wire, cookie, send }, tab) => {
    await tab.logIn('alice');
    const stolen = await cookie('sRefreshToken');
    for (const _ of ['once', 'again']) {
      await wire.expiry();
      assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
    }
    await tab.events();
    const thief = await send('POST', REFRESH, { cookie: `sRefreshToken=${stolen}` });
    assert.deepEqual([thief.status, await thief.json()], [401, { message: 'token theft detected' }]);
    wire.news();
    assert.deepEqual(await tab.call(ME), { status: 401 });
    assert.deepEqual(wire.lines(), [`401 ${ME}`]);
    assert.equal(await tab.doesSessionExist(), false);
    assertEvents(await tab.events(), OUT);
  });

  // C7, L5.
  scenario('while the store is down nobody is refreshed and nobody is out', BRIEF, async ({ wire, gateway, cookie }, tab) => {
    await tab.logIn('alice');
    await tab.events();
    const mark = await cookie(sdk.mark);
    await wire.expiry();
    wire.news();
    const lock = await lockStore(gateway.database);
    try {
      assert.deepEqual(await tab.call(ME), sdk.isCurrent ? { status: 503 } : { threw: 503 });
      assert.deepEqual(wire.lines(), [`401 ${ME}`, `503 ${REFRESH}`]);
      // Not by what 20.x answers to doesSessionExist(): that is false for as long as it cannot refresh.
      assert.ok(mark);
      assert.equal(await cookie(sdk.mark), mark);
      assertEvents(await tab.events(), []);
    } finally {
      await lock.stop();
    }
    assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
    assert.deepEqual(wire.lines(), [`401 ${ME}`, `200 ${REFRESH}`, `200 ${ME}`]);
  });

  // C5, L8.
  scenario('an application that answers 401 itself does not make it loop', { refreshes_per_minute: 4 }, async ({ wire }, tab) => {
    await tab.logIn('alice');
    wire.news();
    assert.deepEqual(await tab.call('/api/refuses-with-403'), { status: 403, user: 'alice' });
    assert.deepEqual(wire.lines(), ['403 /api/refuses-with-403']);

    assert.deepEqual(await tab.call('/api/refuses'), sdk.isCurrent ? { status: 429 } : { threw: 429 });
    const refreshes = wire.lines().filter((line) => line.endsWith(REFRESH));
    assert.deepEqual(refreshes, [...Array(4).fill(`200 ${REFRESH}`), `429 ${REFRESH}`]);
    assert.equal(await tab.doesSessionExist(), true);
    assert.deepEqual(await tab.call(ME), { status: 200, user: 'alice' });
  });

  const token = { ...BRIEF, anti_csrf: 'token', anti_csrf_refresh: sdk.refreshesWithoutAntiCsrf ? 'off' : 'token' };
  scenario('anti-CSRF tokens go with every call', token, async ({ wire, cookie, send }, tab) => {
    await tab.logIn('alice');
    const given = wire.news().at(-1).headers['anti-csrf'];
    assert.ok(given);
    const forged = await send('POST', ME, { cookie: `sAccessToken=${await cookie('sAccessToken')}` });
    assert.deepEqual([forged.status, await forged.json()], [401, { message: 'try refresh token' }]);
    assert.deepEqual(await tab.call(ME, { method: 'POST' }), { status: 200, user: 'alice' });
    await wire.expiry();
    wire.news();
    assert.deepEqual(await tab.call(ME, { method: 'POST' }), { status: 200, user: 'alice' });
    const [, refresh, again] = wire.news();
    assert.deepEqual([refresh.path, refresh.status], [REFRESH, 200]);
    assert.equal(refresh.sent['anti-csrf'], sdk.refreshesWithoutAntiCsrf ? undefined : given);
    assert.equal(again.sent['anti-csrf'], refresh.headers['anti-csrf']);

    await tab.signOut();
    assert.deepEqual(wire.lines(), [`200 ${signOut}`]);
    assert.equal(await tab.doesSessionExist(), false);
  });

  if (sdk.isCurrent) {
    // C15.
    test('header mode: tokens in headers, no cookie of the gateway', { timeout: 60_000 }, async (t) => {
      const world = await openWorld(t, { app, chrome, page: sdk.page }, BRIEF);
      const { wire, gateway } = world;
      const tab = await world.openTab('?transfer=header');
      await tab.logIn('alice');
      const { 'st-access-token': access, 'st-refresh-token': old } = wire.news().at(-1).headers;
      assert.deepEqual(await tab.call(ME, { method: 'POST' }), { status: 200, user: 'alice' });
      assert.equal(wire.news()[0].sent.authorization, `Bearer ${access}`);
      await wire.expiry();
      assert.deepEqual(await tab.calls(3, ME), Array(3).fill(200));
      const exchanges = wire.news();
      const [refresh, ...others] = exchanges.filter(({ path }) => path === REFRESH);
      assert.deepEqual([refresh.status, others], [200, []]);
      assert.equal(refresh.sent.authorization, `Bearer ${old}`);
      assert.equal(exchanges.at(-1).sent.authorization, `Bearer ${refresh.headers['st-access-token']}`);
      assert.equal(await world.cookie('sAccessToken'), undefined);
      assert.equal(await world.cookie('sRefreshToken'), undefined);

      await tab.signOut();
      assert.equal(await tab.doesSessionExist(), false);
      assert.deepEqual(await gateway.sessionsOf('alice'), []);
      wire.news();
      assert.deepEqual(await tab.call(ME), { status: 401 });
      const [last] = wire.news();
      assert.deepEqual([last.path, last.sent.authorization], [ME, undefined]);
    });
  }

  // Only the SDKs of today tell their page what happens.
  function assertEvents(told, expected) {
    assert.deepEqual(told, sdk.isCurrent ? expected : undefined);
  }
}

function manifest(sdk) {
  return JSON.parse(read(`node_modules/${sdk.package}/package.json`));
}

function read(path) {
  return readFileSync(new URL(path, import.meta.url), 'utf8');
}

function assertCleared(headers) {
  assert.deepEqual({ 'front-token': headers['front-token'], 'id-refresh-token': headers['id-refresh-token'] }, CLEARED);
}
