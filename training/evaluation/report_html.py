"""The report as one page that needs nothing else: no network, no script, readable in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from training.evaluation.evaluation import BASELINE, Evaluation
from training.evaluation.report import NO_EVIDENCE
from training.evaluation.report_html_money import trades_section
from training.evaluation.report_html_pieces import cell, number, or_low, pairs, percent, table, when
from training.evaluation.report_html_scores import (
    accuracy_section,
    coverage_section,
    errors_section,
    features_section,
    probabilities_section,
    scores_section,
)
from training.evaluation.report_html_style import STYLE

_COLOURS = ("s1", "s2", "s3", "s4", "s5", "s6")


def page(found: Evaluation, told: Mapping[str, Any], *, name: str, settings: Mapping[str, Any]) -> str:
    """Write the page.

    Parameters
    ----------
    found
        The evaluation, for its curves.
    told
        What `report.answer` says of it.
    name
        Of the recording.
    settings
        What the evaluation depended on, by dotted name.
    """
    css = {family: _COLOURS[k % len(_COLOURS)] for k, family in enumerate(found.walk.families)}
    sections = [
        _head(found, told, name),
        scores_section(told),
        accuracy_section(told, css),
        trades_section(found, told, css),
        probabilities_section(found, told, css),
        coverage_section(told, css),
        errors_section(found, told, css),
        features_section(told, css),
        _trials(told),
        _trainings(told),
        _settings(found, told, name, settings),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Walk-forward of {escape(name)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


# --- sections ---


def _head(found: Evaluation, told: Mapping[str, Any], name: str) -> str:
    evident = not told["verdict"].startswith(NO_EVIDENCE)
    sentence = (
        told["verdict"][0].upper() + told["verdict"][1:] + "."
        if evident
        else "No evidence of skill: nothing here predicts better than no change by more than chance explains."
    )
    error = f"{100 * told['family_wise_error']:g} %"
    small = (
        "Each family and horizon is tested against no change; the chance of any false claim among all of"
        f" them is held below {error}."
    )
    trade = found.walk.trade_horizon
    best = max(
        (family for family in told["families"] if family != BASELINE),
        key=lambda family: or_low(told["families"][family]["pnl"]["return_pct"]),
        default=BASELINE,
    )
    pnl = told["families"][best]["pnl"]
    tiles = (
        ("Deflated Sharpe, best trial", number(told["deflated_sharpe"], 3)),
        ("Probability of overfitting", number(told["pbo"], 3)),
        ("Trials counted", str(told["trials"])),
        (f"{best}, {trade} min, after costs", number(pnl["return_pct"], 1, " %")),
        ("Buy and hold", number(pnl["buy_and_hold_pct"], 1, " %")),
        ("The same trades by coin", number(pnl["coin_flip_pct"], 1, " %")),
    )
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for label, value in tiles)
    span = told["span"]
    return (
        f"<h1>Walk-forward of {escape(name)}</h1>"
        f'<p class="soft">{when(span["from"])} to {when(span["to"])} UTC, {len(told["trainings"])} models'
        f" trained on the way, each on what was known at its time.</p>"
        f'<div class="verdict {"yes" if evident else "no"}">{escape(sentence)}<small>{small}</small></div>'
        f'<div class="tiles">{cells}</div>'
    )


def _trials(told: Mapping[str, Any]) -> str:
    best, found = told["best_trial"], told["overfitting"]
    tuned = ", and what tuning tried" if any("tuning" in each for each in told["trainings"]) else ""
    lines = [f"<b>{told['trials']}</b> trials: every family, horizon and seed, as served and always{tuned}."]
    if best is not None:
        lines.append(
            f"The best of them is {escape(best['family'])}, {best['horizon']} minutes ahead, seed"
            f" {best['seed']} ({_way(best['settings'])}), with a Sharpe ratio of"
            f" {number(best['sharpe'], 3)} a day. So many trials without skill would have one of"
            f" {number(best['expected_of_chance'], 3)} at best. The probability that the true one is"
            f" higher, the deflated Sharpe ratio, is <b>{number(best['deflated'], 3)}</b>; had it been the"
            f" only trial, it would be above zero with {number(best['probabilistic'], 3)}."
        )
    else:
        lines.append("No trial earned anything that varied, so there is no Sharpe ratio to deflate.")
    if found is None or found["reason"]:
        reason = "there are no returns" if found is None else found["reason"]
        lines.append(f"The probability of backtest overfitting is unknown: {escape(reason)}.")
    else:
        lines.append(
            f"Choosing the best of one half of the days, it was below the median of the other half in"
            f" <b>{percent(found['probability'], 1)} %</b> of {found['choices']:,} ways to halve them."
        )
    return "<h2>How much was tried</h2>" + "".join(f"<p>{line}</p>" for line in lines)


def _trainings(told: Mapping[str, Any]) -> str:
    rows = [
        [
            f'<td class="text">{when(each["train_at"])}</td>',
            f'<td class="text">{escape(each["family"])}</td>',
            cell(each["seed"]),
            f'<td class="text">{escape(each["symbol"])}</td>',
            cell(each["horizon"]),
            cell(f"{each['rows']:,}"),
            _promoted(each),
            f'<td class="text long">{escape(each["reason"])}</td>',
            f'<td class="text"><code>{escape(each["model_version"] or "")}</code></td>',
        ]
        for each in told["trainings"]
    ]
    promoted = sum(each["promoted"] for each in told["trainings"])
    titles = ("At", "Family", "Seed", "Of", "Minutes ahead", "Rows", "Promoted", "Why", "Version")
    return (
        f"<h2>Trainings</h2><p>{promoted} of {len(rows)} models would have been promoted.</p>"
        f"<details><summary>All trainings</summary>{table(titles, rows, texts=2)}</details>"
    )


def _way(settings: str) -> str:
    return "as served" if "served" in settings else "always the newest model"


def _promoted(each: Mapping[str, Any]) -> str:
    said = "yes" if each["promoted"] else "no"
    return f'<td class="text {said}">{said}</td>'


def _settings(found: Evaluation, told: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> str:
    span = {
        "recording": name,
        "symbols": ", ".join(found.data.symbols),
        "first minute": told["data"]["from"],
        "last minute": told["data"]["to"],
        "candles": f"{told['data']['candles']:,}",
        "scored from": told["span"]["from"],
        "scored to": told["span"]["to"],
    }
    return (
        f"<h2>Data and settings</h2>{pairs(span)}"
        f"<details><summary>Settings</summary>{pairs(settings)}</details>"
    )
