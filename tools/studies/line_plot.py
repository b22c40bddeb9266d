"""Line plots as SVG. Python's standard library alone.

A line is (label, [(x, y), ...]), drawn with dots; a panel a set of lines over common axes. Colours go by a line's place.
"""

import html
import math

COLOURS = ("#1b6ca8", "#c8553d", "#3c8d5a", "#8a5aa8", "#b58900", "#4aa3a2", "#d16ba5", "#666666", "#8c6d46", "#222222")
WIDTH, HEIGHT, LEFT, TOP = 430, 270, 62, 34


def ticks(low, high, log):
    if log:
        return [2.0 ** e for e in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1) if low <= 2.0 ** e <= high]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 6)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def widened(values):
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(low) * 0.05 or 1.0
    return low - margin, high + margin


def panel(title, x_name, lines, left=0, top=0, log_x=False, rules=()):
    """SVG of one panel. rules: (place of a line, y), dotted and level."""
    lines = [(label, [(x, y) for x, y in points if y is not None and math.isfinite(y)]) for label, points in lines]
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points] + [y for _, y in rules]
    if not xs:
        return ""
    (y0, y1), (x0, x1) = widened(ys), (min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    scale = math.log if log_x else float
    x_at = lambda x: left + LEFT + (WIDTH - LEFT - 12) * (scale(x) - scale(x0)) / (scale(x1) - scale(x0))
    y_at = lambda y: top + TOP + (HEIGHT - TOP - 42) * (1 - (y - y0) / (y1 - y0))
    text = lambda x, y, words, more="": f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(words)}</text>'
    parts = [text(left + LEFT, top + 20, title, 'font-weight="bold"'), text(left + (LEFT + WIDTH) / 2, top + HEIGHT - 8, x_name)]
    for y in ticks(y0, y1, False):
        parts.append(f'<line x1="{x_at(x0):.1f}" x2="{x_at(x1):.1f}" y1="{y_at(y):.1f}" y2="{y_at(y):.1f}" stroke="#ddd"/>')
        parts.append(text(left + LEFT - 6, y_at(y) + 4, f"{y:.4g}", 'text-anchor="end"'))
    for x in ticks(x0, x1, log_x):
        parts.append(text(x_at(x), top + HEIGHT - 26, f"{x:g}", 'text-anchor="middle"'))
    for place, y in rules:
        parts.append(f'<line x1="{x_at(x0):.1f}" x2="{x_at(x1):.1f}" y1="{y_at(y):.1f}" y2="{y_at(y):.1f}" '
                     f'stroke="{COLOURS[place % len(COLOURS)]}" stroke-dasharray="2 3"/>')
    for place, (_, points) in enumerate(lines):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(points) <= 40:
            parts += [f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="2.2" fill="{colour}"/>' for x, y in points]
    return "\n".join(parts)


def write_plot(path, panels, labels):
    """panels: keyword arguments of panel() each, two side by side; labels below name the colours."""
    columns = min(2, len(panels))
    rows = (len(panels) + columns - 1) // columns
    width, height = columns * WIDTH, rows * HEIGHT
    body = [panel(left=i % columns * WIDTH, top=i // columns * HEIGHT, **each) for i, each in enumerate(panels)]
    for place, label in enumerate(labels):
        x, y = 20 + place % 2 * WIDTH * columns / 2, height + 16 + place // 2 * 18
        body.append(f'<rect x="{x}" y="{y - 9}" width="14" height="4" fill="{COLOURS[place % len(COLOURS)]}"/>'
                    f'<text x="{x + 20}" y="{y}">{html.escape(label)}</text>')
    height += 18 * ((len(labels) + 1) // 2) + 12
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
                    'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
                    + "\n".join(body) + "\n</svg>\n")
