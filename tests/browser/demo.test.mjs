// `portcullis demo`, as a person with two browsers sees it. Two contexts of Chromium share nothing and stand for the two.
//
//   PORTCULLIS_BIN=../../target/debug/portcullis node --test
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';

import { launchChromium } from './chromium.mjs';
import { startProgram } from './program.mjs';

const PATIENCE_MS = 30_000;

let demo;
let chrome;
let contexts = [];

before(async () => {
  demo = await startDemo();
  chrome = await launchChromium();
}, { timeout: 60_000 });

after(async () => {
  await chrome?.close();
  await demo?.stop();
});

afterEach(async () => {
  await Promise.all(contexts.map((context) => context.close()));
  contexts = [];
});

describe('portcullis demo', { timeout: 300_000 }, () => {
  test('a login shows the user that the app was told', async () => {
    const { page, complaints } = await openBrowser();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    for (const name of ['alice', 'Zoë <b>, 100%']) {
      await logIn(page, name);
      assert.equal(await page.locator('#who').textContent(), name);
      await page.reload();
      await loggedIn(page);
      assert.equal(await page.locator('#who').textContent(), name);
      await page.getByRole('button', { name: 'Log out', exact: true }).click();
      await page.getByRole('heading', { name: 'Log in' }).waitFor();
    }
    assert.deepEqual(complaints, []);
  });

  test('no cookie of the gateway reaches the app, and its own do', async () => {
    const { page, context } = await openBrowser();
    await context.addCookies([{ name: 'theme', value: 'dark', url: demo.url }]);
    await logIn(page, 'alice');
    assert.notDeepEqual(await sessionCookies(context), []);
    const { user, headers } = await page.evaluate(() => fetch('/me').then((answer) => answer.json()));
    assert.equal(user, 'alice');
    assert.equal(headers['x-user-id'], 'alice');
    assert.equal(headers.cookie, 'theme=dark');
    for (const { value } of await context.cookies()) {
      const secret = value.length > 20 && JSON.stringify(headers).includes(value);
      assert.ok(!secret, 'a token reached the app');
    }
  });

  test('scripts cannot read the session cookies', async () => {
    const { page, context } = await openBrowser();
    await logIn(page, 'alice');
    const visible = await page.evaluate(() => document.cookie);
    for (const name of await sessionCookies(context)) {
      if (!name.endsWith('sIdRefreshToken')) assert.ok(!visible.includes(`${name}=`), `${name} is readable`);
    }
  });

  test('the clock ticks', async () => {
    const { page } = await openBrowser();
    await logIn(page, 'alice');
    const clock = page.locator('#clock');
    const shown = new Set();
    await waitUntil(async () => {
      const time = await clock.textContent();
      if (/^\d\d:\d\d:\d\d UTC$/.test(time)) shown.add(time);
      return shown.size >= 3;
    }, 'three different times');
  });

  test('a logout on all devices ends the other browser while it looks on', async () => {
    const one = await openBrowser();
    const two = await openBrowser();
    const other = await openBrowser();
    await logIn(one.page, 'alice');
    await logIn(two.page, 'alice');
    await logIn(other.page, 'bob');

    const navigations = countNavigations(two.page);
    const cookiesOfTwo = await two.context.cookies();
    await one.page.getByRole('button', { name: 'Log out all my devices' }).click();

    await loggedOut(one.page, 'You are logged out on all your devices.');
    assert.deepEqual(await sessionCookies(one.context), [], 'cookies are left where the user logged out');
    await loggedOut(two.page, 'You were logged out: the session ended elsewhere.');
    assert.match(await two.page.locator('#events').textContent(), /closed by the gateway, code 4401/);
    assert.equal(await two.page.locator('#socket-state').getAttribute('data-code'), '4401');
    assert.equal(navigations(), 0, 'the other page was loaded again');

    assert.equal(await statusOfMe(two.page), 401);
    assert.deepEqual(await sessionCookies(two.context), [], 'a refused session keeps its cookies');
    await two.context.addCookies(cookiesOfTwo);
    assert.equal(await statusOfMe(two.page), 401, 'cookies that were kept aside work again');

    assert.equal(await statusOfMe(other.page), 200, 'another user was logged out');
    assert.equal(await other.page.locator('#socket-state').getAttribute('data-state'), 'open');
  });

  test('a logout on this device leaves the other one alone', async () => {
    const one = await openBrowser();
    const two = await openBrowser();
    await logIn(one.page, 'alice');
    await logIn(two.page, 'alice');
    await one.page.getByRole('button', { name: 'Log out', exact: true }).click();
    await loggedOut(one.page, 'You are logged out on this device.');
    await waitUntil(
      async () => (await one.page.locator('#events').textContent()).includes('code 4401'),
      'the end of the own WebSocket',
    );
    assert.deepEqual(await sessionCookies(one.context), []);
    assert.equal(await statusOfMe(one.page), 401);
    assert.equal(await statusOfMe(two.page), 200);
    assert.equal(await two.page.locator('#socket-state').getAttribute('data-state'), 'open');
  });

  test('another tab of the same browser ends too', async () => {
    const { page, context } = await openBrowser();
    await logIn(page, 'alice');
    const tab = await context.newPage();
    await tab.goto(demo.url);
    await loggedIn(tab);
    await page.getByRole('button', { name: 'Log out', exact: true }).click();
    await loggedOut(tab, 'You were logged out: the session ended elsewhere.');
  });

  for (const javaScriptEnabled of [true, false]) {
    const scripts = javaScriptEnabled ? 'with' : 'without';

    test(`Back after a logout shows nothing protected, ${scripts} JavaScript`, async () => {
      const { page, context } = await openBrowser({ javaScriptEnabled });
      await (javaScriptEnabled ? logIn : logInByForm)(page, 'carol');
      await page.goto(`${demo.url}account`);
      assert.equal(await page.locator('#account-user').textContent(), 'carol');
      const redirected = page.waitForNavigation();
      await page.getByRole('button', { name: 'Log out', exact: true }).click();
      await redirected;
      await page.goBack();
      await page.getByRole('heading', { name: 'Log in' }).waitFor();
      assert.ok(!(await page.content()).includes('carol'), 'the page of the user came back');
      assert.deepEqual(await sessionCookies(context), []);
    });
  }

  for (const [button, leavesOther] of [['Log out', true], ['Log out all my devices', false]]) {
    test(`"${button}" by a plain form redirects, without JavaScript`, async () => {
      const one = await openBrowser({ javaScriptEnabled: false });
      const two = await openBrowser({ javaScriptEnabled: false });
      for (const { page } of [one, two]) {
        await logInByForm(page, 'dave');
        await page.goto(`${demo.url}account`);
        assert.equal(await page.locator('#account-user').textContent(), 'dave');
      }
      const answered = one.page.waitForResponse((answer) => answer.request().method() === 'POST');
      await one.page.getByRole('button', { name: button, exact: true }).click();
      const answer = await answered;
      assert.ok([302, 303].includes(answer.status()), `answered with ${answer.status()}`);
      await one.page.getByRole('heading', { name: 'Log in' }).waitFor();
      assert.deepEqual(await sessionCookies(one.context), []);

      await one.page.goto(`${demo.url}account`);
      assert.equal(await one.page.locator('#account-user').count(), 0);
      await two.page.goto(`${demo.url}account`);
      assert.equal(await two.page.locator('#account-user').count(), leavesOther ? 1 : 0);
    });
  }
});

async function openBrowser(options = {}) {
  const context = await chrome.newContext(options);
  context.setDefaultTimeout(PATIENCE_MS);
  contexts.push(context);
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) complaints.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(demo.url)) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(demo.url);
  return { context, page, complaints };
}

async function logIn(page, name) {
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Log in' }).click();
  await loggedIn(page);
  await page.locator('#socket-state[data-state="open"]').waitFor();
}

// As a browser without scripts does it.
async function logInByForm(page, name) {
  await page.getByLabel('Your name').fill(name);
  const loaded = page.waitForNavigation();
  await page.getByRole('button', { name: 'Log in' }).click();
  await loaded;
}

async function loggedIn(page) {
  await page.locator('#logged-in').waitFor({ state: 'visible' });
}

async function loggedOut(page, notice) {
  await page.locator('#notice', { hasText: notice }).waitFor();
  await page.locator('#logged-out').waitFor({ state: 'visible' });
  await page.locator('#logged-in').waitFor({ state: 'hidden' });
  assert.equal(await page.locator('#who').textContent(), '');
}

function statusOfMe(page) {
  return page.evaluate(() => fetch('/me', { headers: { accept: 'application/json' } }).then(({ status }) => status));
}

async function sessionCookies(context) {
  const names = (await context.cookies()).map(({ name }) => name);
  return names.filter((name) => /^(__Host-|__Secure-)?s(Access|Refresh|IdRefresh)Token$/.test(name));
}

function countNavigations(page) {
  let count = 0;
  page.on('framenavigated', () => { count += 1; });
  return () => count;
}

async function waitUntil(condition, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// Starts the demo on a free port with an empty store and reads its address from what it prints.
async function startDemo() {
  const binary = process.env.PORTCULLIS_BIN;
  assert.ok(binary, 'set PORTCULLIS_BIN to the path of the portcullis binary');
  const data = await mkdtemp(join(tmpdir(), 'portcullis-demo-'));
  const program = await startProgram(resolve(binary), ['demo', '--listen', '127.0.0.1:0', '--data', data], {
    ready: /http:\/\/[^\s"'<>]+(?=\s)/,
  });
  const stop = async () => {
    await program.stop();
    await rm(data, { recursive: true, force: true });
  };
  return { url: new URL('/', program.ready[0]).href, stop };
}
