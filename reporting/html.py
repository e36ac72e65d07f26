"""The report as one HTML page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape

from reporting.blocks import Block, Bullets, Figure, Figures, Folded, Section, Table

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --page: #fbfaf7; --card: #fff;
  --line: #dfe3e8; --link: #1f5fa8; --good: #1d7a3a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b3; --page: #14181e;
  --card: #1c222a; --line: #343d49; --link: #8ab8f0; --good: #7fd196; --bad: #ff9a90; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main, header { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.8rem; margin: 0; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; }
header p, p, li { color: var(--soft); }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1rem; list-style: none; padding: 0; margin: 1rem 0; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; border-top: 1px solid var(--line); }
td { white-space: nowrap; }
thead th { border-top: 0; white-space: nowrap; color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody tr:hover { background: color-mix(in srgb, var(--link) 8%, transparent); }
th:first-child { text-align: left; font-weight: 500; min-width: 9rem; }
.yes { color: var(--good); } .no { color: var(--bad); font-weight: 600; }
.figures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; padding: .75rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
figure.wide { grid-column: 1 / -1; background: #fff; }
svg, img { display: block; width: 100%; height: auto; max-width: 46rem; margin: 0 auto; }
.wide img { max-width: 56rem; }
svg text { font-family: inherit; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
"""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        lead: a sentence below the title.
    """
    sections = [section for section in sections if section.blocks]
    links = "".join(
        f'<li><a href="#{_anchor(s.title)}">{escape(s.title)}</a></li>' for s in sections
    )
    body = "\n".join(
        f'<section id="{_anchor(section.title)}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(map(_html, section.blocks))
        + "\n</section>"
        for section in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{escape(lead)}</p>
<nav aria-label="sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _html(block: Block) -> str:
    if isinstance(block, Table):
        head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in block.header)
        rows = "\n".join(
            f'<tr><th scope="row">{escape(str(row[0]))}</th>{"".join(map(_cell, row[1:]))}</tr>'
            for row in block.rows
        )
        return (
            f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>\n'
            f"<tbody>{rows}</tbody></table></div>"
        )
    if isinstance(block, Bullets):
        return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in block.lines)}</ul>"
    if isinstance(block, Figures):
        return f'<div class="figures">{"".join(map(_figure, block.figures))}</div>'
    if isinstance(block, Folded):
        inner = "\n".join(map(_html, block.blocks))
        return f"<details><summary>{escape(block.title)}</summary>\n{inner}\n</details>"
    return f"<p>{escape(block)}</p>"


def _cell(cell: object) -> str:
    text = str(cell)
    verdict = {"yes": "yes", "NO": "no"}.get(text.split(" ")[0])
    return f"<td{f' class={verdict}' if verdict else ''}>{escape(text)}</td>"


def _figure(figure: Figure) -> str:
    alt = escape(figure.alt, quote=True)
    if isinstance(figure.picture, bytes):
        data = base64.b64encode(figure.picture).decode()
        return f'<figure class="wide"><img alt="{alt}" src="data:image/png;base64,{data}"></figure>'
    named = f'<svg role="img" aria-label="{alt}"'
    return f"<figure>{figure.picture.replace('<svg', named, 1)}</figure>"
