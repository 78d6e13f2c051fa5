// Programs that a test starts: ready when they say so, ended with everything that they have started themselves.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const PATIENCE_MS = 60_000;
const GRACE_MS = 10_000;

// Resolves when what the program prints matches `ready`; rejects, with what it has printed, if that never comes.
export async function startProgram(command, args, { ready, ...options }) {
  const child = spawn(command, args, { ...options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const endGroup = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  };
  const killAtExit = () => endGroup('SIGKILL');
  process.once('exit', killAtExit);

  const program = {
    printed: '',
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        const timer = setTimeout(() => endGroup('SIGKILL'), GRACE_MS);
        child.kill('SIGTERM');
        await exited;
        clearTimeout(timer);
      }
      endGroup('SIGKILL');
      process.removeListener('exit', killAtExit);
    },
  };
  try {
    program.ready = await matchOfOutput(child, ready, program);
  } catch (error) {
    if (child.pid) await program.stop();
    throw error;
  }
  return program;
}

function matchOfOutput(child, pattern, program) {
  return new Promise((found, failed) => {
    const fail = (what) => {
      clearTimeout(timer);
      failed(new Error(`${child.spawnfile} ${what}: ${program.printed}`));
    };
    const timer = setTimeout(() => fail('is not ready'), PATIENCE_MS);
    child.on('error', (error) => fail(error.message));
    child.on('exit', (code, signal) => fail(`has ended (${code ?? signal})`));
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        program.printed += text;
        const match = pattern.exec(program.printed);
        if (!match) return;
        clearTimeout(timer);
        found(match);
      });
    }
  });
}
