"""From measured rounds to medians, ratios and tables."""

import statistics

# What the peers are compared with.
YARDSTICK = "haproxy"


def summary(rounds, key):
    """Median, least and most of one figure over all rounds."""
    values = [one[key] for one in rounds]
    return statistics.median(values), min(values), max(values)


def ratio(results, site, key="cpu"):
    """Median over the rounds of the figure's ratio to the yardstick's of the same round."""
    pairs = zip(results[site], results[YARDSTICK])
    ratios = [mine[key] / other[key] for mine, other in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def as_markdown(report):
    """Everything that was measured."""
    lines = []
    for name, work in report["work"].items():
        lines += [f"**{name}**: {work['title']}", ""]
        lines += _TABLES[work["kind"]](work["results"])
        lines.append("")
    if auth := report.get("authentication"):
        lines += ["**W7**: what the check of a session costs: W2 − W0, CPU µs per request", ""]
        lines += _table(["proxy", "median"], [[site, f"{cost:.2f}"] for site, cost in auth.items()])
        lines.append("")
    return "\n".join(lines)


def write_readme(report, path):
    """Puts the tables between their marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{path} has no place for the figures: {BEGIN} and {END}")
    versions = ", ".join(report["versions"].values())
    system = report["machine"]
    said = (
        f"{report['date']}, revision {report['revision']}: `{report['command']}`, {report['rounds']} rounds of"
        f" {report['seconds']} s. {system['cores']} cores ({system['cpu']}), {system['memory_gib']} GiB, {system['system']}."
        f" {versions}. The proxy has one core, whoever asks and answers the other; 64 clients that wait for their answers, if nothing"
        f" else is said; medians. `with an access log`: the same fields, to a file."
    )
    path.write_text(f"{before}{BEGIN}\n\n{summary_of_all(report)}\n{said}\n\n{END}{after}")


def summary_of_all(report):
    """One line for each work."""
    rows = []
    for name, work in report["work"].items():
        results = work["results"]
        unit, key, digits = _UNITS[work["kind"]]
        cells = [f"{summary(results[site], key)[0]:.{digits}f}" if site in results else "" for site in _SITES]
        if work["kind"] == "latency":
            rows += _latency_summary(name, work)
            continue
        rows.append([name, f"{work['title']}: {unit}", *cells, _ratio(results, "portcullis", key)])
    if auth := report.get("authentication"):
        cells = [f"{auth[site]:.1f}" if site in auth else "" for site in _SITES]
        rows.append(["W7", "the check of a session, W2 − W0: CPU µs per request", *cells, ""])
    head = ["", "work", "Portcullis", "HAProxy", "nginx", "ratio to HAProxy (least..most of the rounds)"]
    return "\n".join(_table(head, rows)) + "\n"


def _latency_summary(name, work):
    results, rows = work["results"], []
    for key in ("p50", "p99"):
        more = added(results, key)
        cells = [f"{statistics.median(more[site]):.0f}" if site in more else "" for site in _SITES]
        pairs = [mine / other for mine, other in zip(more["portcullis"], more[YARDSTICK]) if other > 0]
        ratios = f"{statistics.median(pairs):.2f} ({min(pairs):.2f}..{max(pairs):.2f})" if pairs else ""
        rows.append([name, f"{work['title']}: µs added, {key}", *cells, ratios])
    return rows


def added(results, key):
    """By proxy, round by round, what it took longer than without any."""
    return {
        site: [mine[key] - direct[key] for mine, direct in zip(rounds, results["direct"])]
        for site, rounds in results.items() if site != "direct"
    }


_SITES = ["portcullis", "haproxy", "nginx"]
# By kind of work: what is compared, its key, and decimals.
_UNITS = {
    "requests": ("CPU µs per request", "cpu", 1),
    "downloads": ("CPU s per GiB", "cpu", 2),
    "memory": ("KiB of memory per client", "each", 1),
    "latency": ("µs", "p50", 0),
}


BEGIN, END = "<!-- figures: benches/peers/run --readme -->", "<!-- end of figures -->"


def authentication(work):
    """W7, if what it needs was measured."""
    if "W0" not in work or "W2" not in work:
        return None
    public, checked = work["W0"]["results"], work["W2"]["results"]
    return {
        site: statistics.median(b["cpu"] - a["cpu"] for a, b in zip(public[site], checked[site]))
        for site in checked if site in public
    }


def _requests(results):
    rows = []
    for site in _by(results, "cpu"):
        rounds = results[site]
        median, least, most = summary(rounds, "cpu")
        rows.append([
            site, f"{median:.2f} ({least:.2f}..{most:.2f})",
            f"{summary(rounds, 'user')[0]:.2f}", f"{summary(rounds, 'system')[0]:.2f}", _ratio(results, site),
            f"{summary(rounds, 'rate')[0]:.0f}", f"{summary(rounds, 'p50')[0]:.2f}", f"{summary(rounds, 'p99')[0]:.2f}",
            *([f"{summary(rounds, 'logged')[1]:.1%}"] if "logged" in rounds[0] else []),
        ])
    head = ["proxy", "CPU µs/request", "user", "system", "ratio to HAProxy", "requests/s", "p50 ms", "p99 ms"]
    return _table(head + ["logged, at least"] * (len(rows[0]) - len(head)), rows)


def _downloads(results):
    rows = []
    for site in _by(results, "cpu"):
        median, least, most = summary(results[site], "cpu")
        rows.append([site, f"{median:.3f} ({least:.3f}..{most:.3f})", _ratio(results, site)])
    return _table(["proxy", "CPU s/GiB", "ratio to HAProxy"], rows)


def _memory(results):
    rows = []
    for site in _by(results, "each"):
        figures = [summary(results[site], key)[0] / 1024 for key in ("before", "during", "after")]
        rows.append([site, *(f"{figure:.1f}" for figure in figures), f"{summary(results[site], 'each')[0]:.2f}"])
    return _table(["proxy", "PSS at rest, MiB", "with 5,000 idle clients, MiB", "when they are gone, MiB", "KiB per client"], rows)


def _latency(results):
    more = {key: added(results, key) for key in ("p50", "p99")}
    rows = []
    for site in _by(results, "p50"):
        cells = [site]
        for key in ("p50", "p99"):
            median, least, most = summary(results[site], key)
            cells += [f"{median:.0f} ({least:.0f}..{most:.0f})"]
            cells += [f"{statistics.median(more[key][site]):+.0f}" if site in more[key] else ""]
        rows.append([*cells, f"{summary(results[site], 'requests')[0]:.0f}"])
    return _table(["proxy", "p50 µs", "added", "p99 µs", "added", "requests in a round"], rows)


_TABLES = {"requests": _requests, "downloads": _downloads, "memory": _memory, "latency": _latency}


def _ratio(results, site, key="cpu"):
    if YARDSTICK not in results:
        return ""
    median, least, most = ratio(results, site, key)
    return f"{median:.2f} ({least:.2f}..{most:.2f})"


def _by(results, key):
    return sorted(results, key=lambda site: summary(results[site], key)[0])


def _table(head, rows):
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]]
