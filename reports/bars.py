"""A bar chart of two things measured side by side, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, LABEL, BAR, GAP, LEFT, RIGHT = 640, 20, 18, 14, 100, 90
COLORS = ("#4c72b0", "#dd8452")


def bars(names: tuple[str, str], rows: Sequence[tuple[str, str, float, float]]) -> str:
    """Draws, for each quantity, two bars to a common scale, with the figures beside them.

    Args:
        names: of the two things.
        rows: quantity, unit, the first thing's value, the second's.
    """
    parts: list[str] = []
    y = GAP
    for what, unit, *values in rows:
        parts.append(f'<text x="0" y="{y + 13}" font-weight="bold">{escape(what)}</text>')
        y += LABEL
        most = max(*values, 1e-9)
        for name, value, color in zip(names, values, COLORS, strict=True):
            width = max(1.0, (WIDTH - LEFT - RIGHT) * value / most)
            parts += [
                f'<text x="0" y="{y + 14}">{escape(name)}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>',
                f'<text x="{LEFT + width + 6:.1f}" y="{y + 14}">{_figure(value)} {escape(unit)}</text>',
            ]
            y += BAR + 4
        y += GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'role="img" font-family="sans-serif" font-size="13" fill="#222">{"".join(parts)}</svg>'
    )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
