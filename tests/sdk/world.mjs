// One test's own gateway and browser, and all that went between them.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { startGateway } from '../apps/gateway.mjs';
import { startProgram } from '../browser/program.mjs';

export const REFRESH = '/auth/session/refresh';
export const SIGN_OUT = ['/auth/signout', '/logout'];

const RULES = `
[[login]]
path = "/login"
[[logout]]
path = "/logout"
[[route]]
path = "/page/**"
auth = "none"
[[route]]
path = "/api/refuses-with-403"
upstream_401 = "403"
`;

const DEFAULTS = { refresh: 'client', access_token_lifetime: '1h', reuse_grace: '1s', refreshes_per_minute: 1000 };

// `settings` are those of [session]. All of it ends with the test.
export async function openWorld(t, { app, chrome, page: name }, settings = {}) {
  const session = Object.entries({ ...DEFAULTS, ...settings }).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  const gateway = await startGateway(app.url, `${RULES}[session]\n${session.join('\n')}\n`);
  const context = await chrome.newContext();
  const wire = new Wire(context);
  const complaints = [];
  t.after(async () => {
    try {
      wire.check();
      assert.deepEqual(complaints, []);
    } finally {
      await context.close();
      await gateway.stop();
    }
  });
  return {
    gateway,
    context,
    wire,
    async openTab(query = '') {
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(String(error)));
      await page.goto(`${gateway.url}/page/${name}${query}`);
      return new Tab(page);
    },
    cookie: async (name) => (await context.cookies(`${gateway.url}${REFRESH}`)).find((cookie) => cookie.name === name)?.value,
    // From another machine, with cookies or tokens that it has got hold of.
    send: (method, path, headers = {}) => fetch(`${gateway.url}${path}`, { method, headers: { origin: gateway.url, ...headers } }),
  };
}

// A page with an SDK. Calls are the page's own fetch, which the SDK has wrapped.
class Tab {
  constructor(page) {
    this.page = page;
  }

  // The answer, or what was thrown in its place: an answer too, with the SDKs up to 5.1.
  call(path, init) {
    return this.page.evaluate(async ([path, init]) => {
      try {
        const answer = await fetch(path, init);
        const { user } = await answer.json();
        return user ? { status: answer.status, user } : { status: answer.status };
      } catch (error) {
        return { threw: error.status ?? String(error) };
      }
    }, [path, init]);
  }

  // So many calls at once, from the same moment on.
  calls(count, path) {
    return this.page.evaluate(([count, path]) => Promise.all(Array.from({ length: count }, async () => {
      const answer = await fetch(path);
      return answer.status;
    })), [count, path]);
  }

  async logIn(user) {
    const { status } = await this.call(`/login?user=${user}`, { method: 'POST' });
    assert.equal(status, 200);
    assert.equal(await this.doesSessionExist(), true, 'the SDK does not know of the login');
  }

  doesSessionExist() {
    return this.page.evaluate(() => sdk.doesSessionExist());
  }

  signOut() {
    return this.page.evaluate(async () => { await sdk.signOut(); });
  }

  userId() {
    return this.page.evaluate(() => sdk.getUserId?.());
  }

  // What the SDK has told the page since it was last asked; undefined if it tells nothing.
  events() {
    return this.page.evaluate(() => globalThis.events?.splice(0));
  }
}

// What the pages of a context send, in the order of the answers.
class Wire {
  #exchanges = [];
  #seen = 0;

  constructor(context) {
    context.on('response', (response) => {
      const { pathname } = new URL(response.url());
      if (pathname.startsWith('/page/')) return;
      this.#exchanges.push({
        path: pathname,
        status: response.status(),
        sent: response.request().headers(),
        headers: response.headers(),
      });
    });
  }

  refreshes() {
    return this.#exchanges.filter(({ path }) => path === REFRESH);
  }

  // What holds of every answer, and keeps the SDKs out of the states that they do not get out of by themselves.
  check() {
    const marks = new Set();
    for (const { path, status, headers } of this.#exchanges) {
      const what = `${status} ${path} ${JSON.stringify(headers)}`;
      const told = [headers['front-token'], headers['id-refresh-token']];
      const isOver = told.every((value) => value === 'remove');
      if (told.some(Boolean)) assert.match(headers['cache-control'], /no-store/, what);
      if (path === REFRESH) {
        // C2: neither 404 nor 403. L6: 200, not 204.
        assert.ok([200, 401, 429, 503].includes(status), what);
        // C4, L10: never without both, never with a mark that was there before.
        assert.equal(told.every(Boolean), status === 200 || isOver, what);
        if (status === 200) {
          const mark = headers['id-refresh-token'].split(';')[0];
          assert.ok(!isOver && !marks.has(mark), what);
          marks.add(mark);
        }
      } else if (SIGN_OUT.includes(path)) {
        // C9 to C12.
        assert.ok(status === 200 && isOver && headers['content-type'].startsWith('application/json'), what);
      } else if (path !== '/login') {
        assert.ok(isOver || !told.some(Boolean), what);
      }
    }
  }

  // Since it was last asked.
  news() {
    const news = this.#exchanges.slice(this.#seen);
    this.#seen = this.#exchanges.length;
    return news;
  }

  // The same in short: "401 /api/me".
  lines() {
    return this.news().map(({ status, path }) => `${status} ${path}`);
  }

  // Until the newest access token has expired, by what the gateway said of it, and for so many milliseconds more.
  async expiry(more = 0) {
    const told = this.#exchanges.map(({ headers }) => headers['front-token']).filter((token) => token && token !== 'remove');
    const { ate } = JSON.parse(Buffer.from(told.at(-1), 'base64').toString());
    await sleep(Math.max(0, ate - Date.now()) + more + 50);
  }
}

// Holds the write lock of a SQLite database, as a program does that has gone astray.
export function lockStore(database) {
  const script = 'import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30); '
    + 'c.execute("BEGIN EXCLUSIVE"); print("locked", flush=True); time.sleep(600)';
  return startProgram('/usr/bin/python3', ['-c', script, database], { ready: /locked/ });
}
