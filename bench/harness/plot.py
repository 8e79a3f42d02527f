"""Bar charts as SVG: throughput of each target by the number of clients, one picture for each protocol."""

import os

from .cells import PROTOCOLS
from .results import kind_of

COLOURS = {"direct": "#9aa0a6", "relay": "#c9ccd1", "relay-unix": "#dcdfe3", "helios": "#c2410c", "helios-1w": "#ea8a4f",
           "helios-unix": "#f4b183", "helios-epoll": "#d9773f", "helios-uring": "#a13d0d", "helios-shared": "#7c2d12",
           "pgbouncer": "#1d4ed8", "pgbouncer-new": "#60a5fa", "odyssey": "#15803d", "pgcat": "#7e22ce", "rust": "#a16207"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 380, 64, 16, 56, 44
LABEL = 'font-family="sans-serif" font-size="12" fill="#444"'


def write_all(results, folder):
    for protocol in PROTOCOLS:
        labels = results.labels(protocol)
        if labels:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"performance-{protocol}.svg"), "w", encoding="utf-8") as f:
                f.write(chart(results, protocol, labels))


def round_up(value):
    step = 10 ** (len(str(int(value))) - 1)
    while value / step < 4:
        step /= 2
    return step, step * (int(value / step) + 1)


def bars(results, labels, targets, top):
    group = (WIDTH - LEFT - RIGHT) / len(labels)
    width = group * 0.84 / len(targets)
    for g, label in enumerate(labels):
        x = LEFT + g * group + group * 0.08
        for target in targets:
            found = results.median(label, target, "tps")
            note = ""
            if found is None and target == "pgbouncer":
                found, note = results.median(label, "pgbouncer-session", "tps"), " in session mode"
            if found is not None:
                height = (HEIGHT - TOP - BOTTOM) * found / top
                yield (f'<rect x="{x:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{width * 0.92:.1f}" height="{height:.1f}" '
                       f'fill="{COLOURS.get(kind_of(target), "#555")}"><title>{target}{note}, {label}: {found:,.0f}</title></rect>')
            x += width
        yield (f'<text x="{LEFT + (g + 0.5) * group:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" {LABEL}>'
               f'{label.rpartition("/")[2]}</text>')


def lines(step, top):
    for n in range(int(round(top / step)) + 1):
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * n * step / top
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e3e3e3"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {LABEL}>{n * step:,.0f}</text>'


def legend(targets):
    x = LEFT
    for target in targets:
        yield f'<rect x="{x}" y="30" width="11" height="11" fill="{COLOURS.get(kind_of(target), "#555")}"/>'
        yield f'<text x="{x + 15}" y="40" {LABEL}>{target}</text>'
        x += 30 + 7 * len(target)


def chart(results, protocol, labels):
    targets = results.targets(labels)
    most = max(results.median(label, name, "tps") or 0 for label in labels for name in results.cells[label])
    step, top = round_up(most)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
             f'<text x="{LEFT}" y="18" font-family="sans-serif" font-size="14" fill="#222">pgbench -S, {protocol} protocol: '
             f'transactions a second (median of the rounds)</text>',
             *legend(targets), *lines(step, top), *bars(results, labels, targets, top),
             f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle" {LABEL}>clients</text>', "</svg>"]
    return "\n".join(parts) + "\n"
