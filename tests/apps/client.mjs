// A client with cookies that hides nothing: it follows no redirect, unpacks nothing, and can watch an answer arrive.
import { request } from 'node:http';

export class Client {
  cookies = new Map();

  constructor(base) {
    this.base = base;
  }

  // Sends a request as a script of this site does; the answer with its whole body.
  async send(method, path, options = {}) {
    const answer = await this.open(method, path, options);
    const chunks = [];
    for await (const chunk of answer) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body,
      json: () => JSON.parse(body.toString()),
    };
  }

  get(path, options) {
    return this.send('GET', path, options);
  }

  post(path, options) {
    return this.send('POST', path, options);
  }

  // Resolves with the head of the answer; its body can be read while it arrives. A body given as a list goes in chunks.
  open(method, path, { headers = {}, body } = {}) {
    return new Promise((answered, failed) => {
      const sent = request(new URL(path, this.base), {
        method,
        agent: false,
        headers: { origin: this.base, accept: 'application/json', ...this.cookieHeader(), ...headers },
      });
      sent.on('error', failed);
      sent.on('response', (answer) => {
        for (const cookie of answer.headers['set-cookie'] ?? []) this.store(cookie);
        answered(answer);
      });
      sent.on('upgrade', (answer, socket) => {
        socket.destroy();
        answered(answer);
      });
      if (!Array.isArray(body)) return void sent.end(body);
      for (const chunk of body) sent.write(chunk);
      sent.end();
    });
  }

  store(setCookie) {
    const [pair, ...attributes] = setCookie.split(';').map((part) => part.trim());
    const [name, value] = splitOnce(pair, '=');
    const expires = attributes.map((attribute) => splitOnce(attribute, '='))
      .find(([attribute]) => attribute.toLowerCase() === 'expires')?.[1];
    if (expires && Date.parse(expires) < Date.now()) this.cookies.delete(name);
    else this.cookies.set(name, value);
  }

  cookieHeader() {
    if (this.cookies.size === 0) return {};
    return { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
  }
}

function splitOnce(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
