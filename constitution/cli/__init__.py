"""The command line: thin. Each command's module is imported when it is called, so that --help answers at once.

Exit codes: 0 done; 1 the work was done and something was found (a check failed, a run ended with failures); 2 what was
asked cannot be done. Errors are one sentence and a remedy; --debug shows the traceback.
"""

from __future__ import annotations

import io
import sys

import click

from constitution import __version__
from constitution.cli._lazy import LazyGroup
from constitution.errors import ConstitutionError
from constitution.secrets import hide_keys
from constitution.shown import brief, printable_lines, sentence
from constitution.warehouse.remote import addressed

COMMANDS = {
    "run": ("constitution.cli.run:run", "Run a recipe: answer, critique, revise, judge, store."),
    "try": ("constitution.cli.trial:trial", "Try a recipe on a few prompts: what is wrong, and what it will cost."),
    "runs": ("constitution.cli.runs:runs", "List the runs: how far each got, what it cost."),
    "watch": ("constitution.cli.watch:watch", "Watch a run at work, from another terminal or machine."),
    "serve": ("constitution.cli.serve:serve", "Print the vLLM server command that fits a recipe."),
    "prompts": ("constitution.cli.prompts:group", "Files of prompts: inspect one, and the section that reads it."),
    "principles": (
        "constitution.cli.principles:principles",
        "Principles as code: list, check, test, lock, bump, diff, impact.",
    ),
    "verify": ("constitution.cli.verify:verify", "Compare stored files with their checksums; --repair."),
    "warehouse": ("constitution.cli.warehouse:group", "The warehouse as a whole: copy, du, gc, rm."),
    "sql": ("constitution.cli.sql:sql", "Ask the warehouse in SQL, read-only."),
    "show": ("constitution.cli.show:show", "Print a stored row: what was sent, what came back; --again."),
    "audit": ("constitution.cli.audit:audit", "Measure how far a run's labels can be trusted, as a report."),
    "coverage": ("constitution.cli.coverage:coverage", "What of a document's clauses a run covers, and what not."),
    "export": ("constitution.cli.export:export", "Make a data set that trainers load: cleaned, split, with a card."),
    "relabel": ("constitution.cli.relabel:relabel", "Make a run's labels again from its stored votes."),
    "annotations": (
        "constitution.cli.annotations:group",
        "What people say of pairs and answers: import, list.",
    ),
    "init": ("constitution.cli.init:init", "Start a project: principles, recipes, flows."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="constitution")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def app(debug: bool) -> None:
    """Principles in, preference data out.

    Example:  constitution run recipes/pocket.toml
    """


def main() -> None:
    """Entry point: errors become one sentence and exit code 2, Ctrl-C becomes 130. --debug may stand anywhere."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal cannot show, or is no character, is an escape
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    try:
        # Not click's standalone mode, which turns Ctrl-C into "Aborted!" and exit code 1.
        code = app(words, prog_name="constitution", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(printable_lines(brief(hide_keys(shown.getvalue()))), nl=False, err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt, RuntimeError) as error:
        # DuckDB's word for Ctrl-C is a plain RuntimeError, which click's Abort is too, and Python 3.11's in the middle
        # of a class.
        known = type(error) in (click.Abort, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
        if not known and str(error) != "Query interrupted":
            raise
        click.echo("constitution: interrupted", err=True)
        code = 130
    except (ConstitutionError, OSError, UnicodeEncodeError) as error:
        if debug:
            raise
        click.echo(f"constitution: {addressed(sentence(error))}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
