"""Processes on this machine: started, pinned to a core, measured, ended."""

import os
import platform
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")

# The proxy has a core for itself; whoever asks, and whoever answers behind it, share the other one.
PROXY_CORE = "0"
OTHER_CORE = "1"


class Process:
    """A program that runs until `stop`."""

    def __init__(self, command, core, output, pass_fds=()):
        self.command = command
        self.child = subprocess.Popen(
            ["taskset", "-c", core, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )

    def tree(self):
        """The process ids of the program and of all that it started."""
        found, open_ids = [], [self.child.pid]
        while open_ids:
            process = open_ids.pop()
            found.append(process)
            for task in _listed(f"/proc/{process}/task"):
                open_ids += map(int, _read(f"/proc/{process}/task/{task}/children").split())
        return found

    def cpu_seconds(self):
        """User and system time so far, of the whole tree."""
        user = system = 0
        for process in self.tree():
            fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
            if fields:
                user += int(fields[11])
                system += int(fields[12])
        return user / TICKS, system / TICKS

    def pss_bytes(self):
        """Memory of the whole tree; of what is shared, its share."""
        total = 0
        for process in self.tree():
            for line in _read(f"/proc/{process}/smaps_rollup").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def _read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _listed(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port, process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.child.poll() is not None:
            raise SystemExit(f"{process.command[0]} ended with status {process.child.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.command[0]} does not listen on port {port} after {seconds} s")


def busy_others(processes, seconds=0.5):
    """How many cores are busy with something else than `processes`, now."""
    before, own_before = _machine_busy(), sum(sum(one.cpu_seconds()) for one in processes)
    time.sleep(seconds)
    after, own_after = _machine_busy(), sum(sum(one.cpu_seconds()) for one in processes)
    return max(0.0, (after - before - (own_after - own_before)) / seconds)


def _machine_busy():
    fields = list(map(int, _read("/proc/stat").split("\n", 1)[0].split()[1:]))
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / TICKS


def describe():
    """What the figures depend on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    release = next(
        (line.split("=", 1)[1].strip('"') for line in _read("/etc/os-release").splitlines() if line.startswith("PRETTY_NAME=")),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 1024 / 1024),
        "system": f"{release}, Linux {platform.release()}",
    }


def version_of(*command):
    """The first line that a program says of its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter((said.stdout + said.stderr).splitlines()), "unknown").strip()


def install_missing(packages):
    """Debian packages by the program that each is for."""
    missing = [package for name, package in packages.items() if not program(name)]
    if not missing:
        return
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    print("installing Debian packages:", *missing, flush=True)
    # Peers run from configurations of our own: the packages' services stay off.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run([*as_root, "apt-get", "update", "-qq"], check=True)
    subprocess.run(
        [*as_root, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing],
        check=True, env=environment, stdout=subprocess.DEVNULL,
    )


def program(name):
    """Where it is, also for who is not root."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
