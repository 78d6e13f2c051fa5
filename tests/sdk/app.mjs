// The application behind the gateway: one page per SDK, a login, and an API that says who asks. It knows nothing of sessions.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const PAGES = fileURLToPath(new URL('pages/', import.meta.url));

export async function startApp(names) {
  const scripts = new Map(await Promise.all(names.map(async (name) => [`/page/${name}.js`, await bundle(name)])));
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://app');
    const script = scripts.get(pathname);
    if (script) return answer(response, 200, 'text/javascript', script);
    if (pathname.startsWith('/page/')) return answer(response, 200, 'text/html', html(pathname));
    if (pathname === '/login') response.setHeader('portcullis-login', searchParams.get('user'));
    // An application with an opinion of its own about who may come in.
    const status = pathname.startsWith('/api/refuses') ? 401 : 200;
    return answer(response, status, 'application/json', JSON.stringify({ user: request.headers['x-user-id'] ?? null }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

// The package as npm installed it, as an application's bundler would take it.
async function bundle(name) {
  const { outputFiles } = await build({
    entryPoints: [`${PAGES}${name}.mjs`],
    bundle: true,
    format: 'iife',
    platform: 'browser',
    // What bundlers of the days of 4.x and 5.x gave to packages without being asked.
    banner: { js: 'globalThis.process = { env: {} };' },
    define: { global: 'globalThis' },
    write: false,
    logLevel: 'error',
  });
  return outputFiles[0].text;
}

function html(pathname) {
  return `<!doctype html><title>app</title><link rel="icon" href="data:,"><script src="${pathname}.js"></script>`;
}

function answer(response, status, type, body) {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8` });
  response.end(body);
}
