"""Figures in README.md: between marks that name the command which puts them there, with machine and date."""

import os
import pathlib
import platform
import subprocess
import time

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def machine(binary, command):
    """Where and when, and what was measured, in one line."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"], cwd=README.parent, capture_output=True, text=True, check=False)
    profile = pathlib.Path(binary).parent.name
    return (f"{time.strftime('%Y-%m-%d')}, revision {revision.stdout.strip()}, {profile} build: `{command}`. {os.cpu_count()} cores ({cpu}),"
            f" {memory:.0f} GiB, Linux {platform.release()}.")


def table(head, rows):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def write_readme(command, text):
    begin, end = f"<!-- figures: {command} -->", "<!-- end of figures -->"
    before, _, rest = README.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise SystemExit(f"README.md has no place for the figures: {begin} and {end}")
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
