// The page of the demo. It keeps no session and asks nothing in between: who is logged in comes from GET /me, and that
// a session has ended elsewhere comes from the gateway, which closes the WebSocket with code 4401.
'use strict';

const SESSION_ENDED = 4401;
const ENDED_ELSEWHERE =
  `You were logged out: the session ended elsewhere. The gateway closed this page's WebSocket with code ${SESSION_ENDED}.`;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 30000;

const byId = (id) => document.getElementById(id);

let socket = null; // the WebSocket of the session that is shown
let retry = null; // the timer until it is opened again after a failure
let retryAfter = FIRST_RETRY_MS;
let leaving = false; // a button of this page is ending the session
let logEmpty = true;

function tell(text, important = false) {
  const entry = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = new Date().toLocaleTimeString();
  entry.append(time, text);
  entry.classList.toggle('important', important);
  if (logEmpty) byId('events').replaceChildren();
  logEmpty = false;
  byId('events').prepend(entry);
}

function notify(text) {
  byId('notice').textContent = text;
  byId('notice').hidden = text === '';
}

function showLoggedOut(text = '') {
  byId('logged-in').hidden = true;
  byId('logged-out').hidden = false;
  byId('who').textContent = '';
  byId('headers').replaceChildren();
  byId('cookies').textContent = '';
  clearTimeout(retry);
  notify(text);
  if (text !== '') byId('notice').focus();
}

function showLoggedIn({ user, headers }) {
  byId('logged-out').hidden = true;
  byId('logged-in').hidden = false;
  byId('who').textContent = user;
  byId('cookies').textContent = 'cookie' in headers ? cookieNames(headers.cookie) : 'no cookie';
  byId('headers').replaceChildren(...Object.entries(headers).map(headerRow));
}

function cookieNames(cookie) {
  return 'cookies ' + cookie.split(';').map((pair) => pair.split('=')[0].trim()).join(', ');
}

function headerRow([name, value]) {
  const row = document.createElement('tr');
  for (const text of [name, value]) {
    const cell = document.createElement('td');
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

// Asks once who is logged in, and shows it.
async function look() {
  let answer;
  try {
    answer = await fetch('/me', { headers: { accept: 'application/json' }, cache: 'no-store' });
  } catch {
    notify('The gateway cannot be reached.');
    return 'unknown';
  }
  if (answer.status === 401) return 'logged out';
  if (!answer.ok) {
    notify(`GET /me was answered with status ${answer.status}.`);
    return 'unknown';
  }
  showLoggedIn(await answer.json());
  notify('');
  return 'logged in';
}

function openClock() {
  clearTimeout(retry);
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const opened = new WebSocket(`${scheme}://${location.host}/clock`);
  socket?.close();
  socket = opened;
  delete byId('socket-state').dataset.code;
  showSocket('connecting', 'connecting');
  opened.onopen = () => {
    if (opened !== socket) return;
    retryAfter = FIRST_RETRY_MS;
    showSocket('open', 'WebSocket open');
    tell('WebSocket open: the gateway checked the session once, at the handshake.');
  };
  opened.onmessage = ({ data }) => {
    if (opened !== socket) return;
    byId('clock').textContent = data.slice(11, 19) + ' UTC';
  };
  opened.onclose = (event) => {
    if (opened === socket) clockClosed(event);
  };
}

async function clockClosed({ code, reason }) {
  socket = null;
  byId('clock').textContent = '--:--:--';
  byId('socket-state').dataset.code = code;
  showSocket('closed', `WebSocket closed, code ${code}`);
  if (code === SESSION_ENDED) {
    const why = reason ? ` (${reason})` : '';
    tell(`WebSocket closed by the gateway, code ${code}${why}: the session has ended. The app did not notice.`, true);
    if (!byId('logged-in').hidden) showLoggedOut(leaving ? '' : ENDED_ELSEWHERE);
    return;
  }
  if (byId('logged-in').hidden) return;
  tell(`WebSocket lost, code ${code}. That alone does not end the session.`);
  const found = await look();
  if (found === 'logged out') return showLoggedOut('You were logged out.');
  retry = setTimeout(openClock, retryAfter);
  retryAfter = Math.min(retryAfter * 2, LAST_RETRY_MS);
}

function showSocket(state, text) {
  byId('socket-state').dataset.state = state;
  byId('socket-state').textContent = text;
}

async function logIn(event) {
  event.preventDefault();
  byId('login-error').textContent = '';
  await whileBusy(event.target, async () => {
    const answer = await fetch('/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ user: byId('user').value }),
    });
    const { user, message } = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      byId('login-error').textContent = message ?? `The login was answered with status ${answer.status}.`;
      return;
    }
    if ((await look()) !== 'logged in') return;
    tell(`Logged in as ${user}. The app named the user in one response header; the gateway took it out, opened a session and set the cookies.`, true);
    byId('user-title').focus();
    openClock();
  });
}

async function logOut(event, done, explanation) {
  event.preventDefault();
  leaving = true;
  await whileBusy(event.target, async () => {
    const answer = await fetch(new URL(event.target.action), { method: 'POST', headers: { accept: 'application/json' } });
    const { status } = await answer.json().catch(() => ({}));
    if (answer.ok && status === 'OK') {
      tell(explanation, true);
      showLoggedOut(done);
    } else {
      tell(`The logout was answered with status ${answer.status}.`, true);
      if ((await look()) === 'logged out') showLoggedOut(`You are logged out here, but the logout was answered with status ${answer.status}.`);
    }
  });
  leaving = false;
}

async function whileBusy(form, work) {
  const button = form.querySelector('button');
  button.disabled = true;
  try {
    await work();
  } catch {
    notify('The gateway cannot be reached.');
  } finally {
    button.disabled = false;
  }
}

async function start() {
  const found = await look();
  if (found === 'logged in') openClock();
  else if (found === 'logged out') showLoggedOut();
}

byId('login').addEventListener('submit', logIn);
byId('logout').addEventListener('submit', (event) =>
  logOut(event, 'You are logged out on this device.',
    'Logged out. The gateway answered POST /logout itself: the session is gone, its cookies are cleared.'));
byId('logout-all').addEventListener('submit', (event) =>
  logOut(event, 'You are logged out on all your devices.',
    'Logged out everywhere. The gateway ended every session of this user before it answered POST /logout-all.'));
// A page that comes back from the browser's memory may show a session that has ended meanwhile.
addEventListener('pageshow', ({ persisted }) => persisted && start());
start();
