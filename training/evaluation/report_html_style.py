"""The looks of the report: one style sheet for light and dark, screen and paper."""

from __future__ import annotations

_LIGHT = """
  --page: #f6f6f3; --card: #ffffff; --ink: #14140f; --soft: #55554e; --faint: #8b8b82; --grid: #e6e5df;
  --frame: #b9b8b0; --good: #12734b; --good-back: #e3f3ea; --none: #6b4a06; --none-back: #fbf1d9;
  --s1: #2a6fc9; --s2: #138a62; --s3: #c07a00; --s4: #7a45b8; --s5: #cf3f46; --s6: #5c6f7d;
"""
_DARK = """
  --page: #101110; --card: #191a19; --ink: #f2f2ee; --soft: #b9b9b0; --faint: #85857d; --grid: #2b2c2a;
  --frame: #55564f; --good: #7fd6ab; --good-back: #12301f; --none: #f0cd7d; --none-back: #33280d;
  --s1: #5b9bea; --s2: #35b488; --s3: #e0a02f; --s4: #b18ae6; --s5: #ee7277; --s6: #93a7b5;
"""
STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }}
main {{ max-width: 1280px; margin: 0 auto; padding: 36px 24px 72px; }}
h1 {{ font-size: 28px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }}
h2 {{ font-size: 19px; margin: 44px 0 4px; letter-spacing: -0.005em; }}
h3 {{ font-size: 14px; margin: 0 0 2px; font-weight: 600; }}
p {{ margin: 4px 0 12px; max-width: 78ch; }}
.soft, .note {{ color: var(--soft); }}
.note {{ font-size: 13px; }}
.verdict {{ border-radius: 10px; padding: 14px 18px; margin: 20px 0 8px; font-size: 17px; font-weight: 600; }}
.verdict.no {{ background: var(--none-back); color: var(--none); }}
.verdict.yes {{ background: var(--good-back); color: var(--good); }}
.verdict small {{ display: block; font-weight: 400; font-size: 14px; margin-top: 2px; }}
.tiles {{ display: grid; gap: 12px; margin: 16px 0;
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }}
.tile {{ background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 12px 14px; }}
.tile b {{ display: block; font-size: 22px; font-weight: 600; letter-spacing: -0.01em; }}
.tile span {{ color: var(--soft); font-size: 13px; }}
.charts {{ display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); }}
figure {{ margin: 0; background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  padding: 14px 16px 8px; min-width: 0; }}
figcaption {{ margin-bottom: 6px; }}
svg {{ display: block; width: 100%; height: auto; overflow: visible; }}
svg text {{ font-family: inherit; fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }}
svg .axis {{ fill: var(--faint); }}
svg .label {{ fill: var(--ink); font-size: 11.5px; }}
svg .grid {{ stroke: var(--grid); stroke-width: 1; }}
svg .frame {{ stroke: var(--frame); stroke-width: 1; }}
svg line.reference, svg path.line.reference {{ stroke: var(--faint); stroke-width: 1.3; }}
svg path.line {{ fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }}
svg path.area {{ stroke: none; opacity: 0.12; }}
svg .whisker {{ stroke-width: 2; stroke-linecap: round; }}
svg .dot {{ stroke: var(--card); stroke-width: 1.4; }}
svg circle.hollow {{ fill: var(--card); stroke-width: 2; }}
{
    "".join(
        f"svg path.line.s{k}, svg line.s{k}, svg circle.hollow.s{k} {{ stroke: var(--s{k}); }}"
        f"svg path.area.s{k}, svg .bar.s{k}, svg .dot.s{k} {{ fill: var(--s{k}); }}"
        f".swatch.s{k} {{ background: var(--s{k}); }}"
        for k in range(1, 7)
    )
}
.swatch.reference {{ background: var(--faint); }}
.legend {{ margin: 2px 0 10px; font-size: 13px; color: var(--soft);
  display: flex; flex-wrap: wrap; gap: 4px 16px; }}
.key {{ white-space: nowrap; display: inline-flex; align-items: center; gap: 6px; }}
.swatch {{ width: 12px; height: 4px; border-radius: 2px; display: inline-block; }}
.scroll {{ overflow-x: auto; background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  margin: 10px 0 16px; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 7px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }}
tr:last-child td {{ border-bottom: 0; }}
th {{ color: var(--soft); font-weight: 600; font-size: 12px; white-space: normal; vertical-align: bottom; }}
th.text, td.text {{ text-align: left; }}
td.long {{ white-space: normal; min-width: 34ch; }}
.yes {{ color: var(--good); font-weight: 600; }}
.no {{ color: var(--none); }}
details {{ margin: 10px 0; }}
summary {{ cursor: pointer; font-weight: 600; }}
code {{ font: 12.5px ui-monospace, SFMono-Regular, Menlo, monospace; }}
@media print {{ figure, .scroll {{ break-inside: avoid; }} }}
"""
