// The built gateway in front of an application, in a folder of its own, and its command line on the same store.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

import { startProgram } from '../browser/program.mjs';

// `rules` is the part of the configuration that says what is particular to the application.
export async function startGateway(upstream, rules) {
  assert.ok(process.env.PORTCULLIS_BIN, 'set PORTCULLIS_BIN to the path of the portcullis binary');
  const binary = resolve(process.env.PORTCULLIS_BIN);
  const folder = await mkdtemp(join(tmpdir(), 'portcullis-apps-'));
  const config = join(folder, 'portcullis.toml');
  const database = join(folder, 'sessions.db');
  await writeFile(config, `
[server]
listen = "127.0.0.1:0"
[admin]
listen = "off"
[store]
url = "sqlite:${database}"
[[upstream]]
name = "app"
servers = ["${upstream}"]
idle_timeout = "1s"
${rules}`);
  const removeFolder = () => rm(folder, { recursive: true, force: true });
  const program = await startProgram(binary, ['serve', '--config', config], {
    cwd: folder,
    ready: / listening address=(127\.0\.0\.1:\d+)/,
  }).catch(async (error) => {
    await removeFolder();
    throw error;
  });
  const sessions = async (...args) => {
    const { stdout } = await promisify(execFile)(binary, ['sessions', '--config', config, '--json', ...args]);
    return stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  };
  return {
    url: `http://${program.ready[1]}`,
    database,
    // What it has logged so far.
    log: () => program.printed,
    sessionsOf: (user) => sessions('list', '--user', user),
    openSession: async (user) => (await sessions('open', '--user', user))[0],
    revokeUser: async (user) => (await sessions('revoke-user', user))[0],
    async stop() {
      await program.stop();
      await removeFolder();
    },
  };
}
