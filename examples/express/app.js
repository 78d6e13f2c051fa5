// An application behind Portcullis: it checks passwords, and leaves sessions to the gateway.
const express = require('express');

const app = express();
const users = new Map([['alice', 'wonderland'], ['bob', 'builder']]); // yours: the users table, with hashed passwords

const escape = (text) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
const page = (body) => `<!doctype html><title>Example</title>${body}`;

// The gateway sends visitors without a session here, with the path that they asked for. Only a path of this site will do.
const wayBack = (asked) => (/^\/(?!\/)[^\\\s]*$/.test(asked ?? '') ? asked : '/');

function loginForm(response, status, wanted, message) {
  response.status(status).send(page(`<p>${message}</p>
    <form method="post" action="/login?return_to=${encodeURIComponent(wanted)}">
      <input name="user" placeholder="alice"> <input name="password" type="password" placeholder="wonderland">
      <button>Log in</button>
    </form>`));
}

app.get('/login', (request, response) => {
  loginForm(response, 200, wayBack(request.query.return_to), 'Who are you?');
});

app.post('/login', express.urlencoded({ extended: false }), (request, response) => {
  const { user, password } = request.body ?? {};
  const wanted = wayBack(request.query.return_to);
  if (!users.has(user) || users.get(user) !== password) {
    loginForm(response, 401, wanted, 'That is not right.');
    return;
  }
  response.set('portcullis-login', encodeURIComponent(user)); // this opens the session
  response.redirect(303, wanted);
});

// Everything else is asked for by somebody who is logged in; the gateway says who.
app.get('/', (request, response) => {
  const user = request.get('x-user-id') ?? '';
  response.send(page(`<p>Hello, ${escape(decodeURIComponent(user))}.</p>
    <form method="post" action="/logout"><button>Log out</button></form>`));
});

// This machine only: whoever reached the application past the gateway could call themselves anybody.
const port = process.env.PORT ?? 3000;
const host = process.env.HOST ?? '127.0.0.1';
app.listen(port, host, () => console.log(`listening on http://${host}:${port}`));
