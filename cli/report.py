"""`tidecast report`: what recorded or collected candles say of the market and of the features."""

from __future__ import annotations

import typer

from cli import report_ablation, report_correlations, report_modes, report_results
from cli.commands import HELP_OPTIONS

app = typer.Typer(
    help="What the candles say: how symbols move together, what each group of features is worth, which way"
    " to retrain is better, what the models foretold.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=HELP_OPTIONS,
)
app.command("correlations")(report_correlations.correlations)
app.command("ablation")(report_ablation.ablation)
app.command("modes")(report_modes.modes)
app.command("results")(report_results.results)
