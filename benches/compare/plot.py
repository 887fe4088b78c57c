"""Draws the figures of a comparison: a row of panels for each corpus, in each a bar for each program. SVG without any library.

The longest bar of a panel fills it; the figure stands beside the bar, bold for the least. Readable on light and dark pages.
"""

from html import escape

PANELS = [
    ("first backup", "wall_s", "first backup, s"),
    ("unchanged backup", "wall_s", "unchanged, s"),
    ("changed backup", "wall_s", "changed, s"),
    ("restore", "wall_s", "restore, s"),
    ("first backup", "cpu_s", "first backup, CPU s"),
    ("changed backup", "stored_bytes", "all stored, MB"),
]
NAMES_WIDTH, PANEL_WIDTH, BAR_WIDTH = 100, 150, 95
LINE, HEAD, GAP = 13, 34, 14
STYLE = """text { font: 10px system-ui, sans-serif; fill: #24292f }
.corpus { font-size: 12px; font-weight: bold } .least { font-weight: bold } .number { font-size: 9px }
rect { fill: #afb8c1 } .own { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } rect { fill: #6e7681 } .own { fill: #4493f8 } }"""


def text(x: float, y: float, words: str, kind: str = "name") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def panel(x: float, top: float, figures: dict, key: str, tools: list) -> list:
    """The bars of one step and figure."""
    unit = 1e6 if key == "stored_bytes" else 1
    values = {tool: figures[tool][key] / unit for tool in tools if figures[tool].get(key) and "exit_code" not in figures[tool]}
    shapes = []
    for line, tool in enumerate(tools):
        if tool not in values:
            continue
        value, y = values[tool], top + line * LINE
        width = max(1.0, BAR_WIDTH * value / max(values.values()))
        own = ' class="own"' if tool.startswith("icecore") else ""
        shapes.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{LINE - 3}"{own}/>')
        shapes.append(text(round(x + width + 3, 1), y + LINE - 5, number(value), "least" if number(value) == number(min(values.values())) else "number"))
    return shapes


def drawn(comparisons: list) -> str:
    """The drawing of comparisons, each a corpus, its programs, and the medians by step and program."""
    shapes, y = [], 0
    for corpus, tools, steps in comparisons:
        shapes.append(text(4, y + 14, corpus, "corpus"))
        shapes += [text(4, y + HEAD + line * LINE + LINE - 5, tool) for line, tool in enumerate(tools)]
        for column, (step, key, title) in enumerate(PANELS):
            x = NAMES_WIDTH + column * PANEL_WIDTH
            shapes.append(text(x, y + HEAD - 6, title))
            shapes += panel(x, y + HEAD, steps[step], key, tools)
        y += HEAD + len(tools) * LINE + GAP
    width = NAMES_WIDTH + len(PANELS) * PANEL_WIDTH
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *shapes, "</svg>", ""])
