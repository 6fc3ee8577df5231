"""The command line: `run`, which is the default, and the other commands, each loaded when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NoReturn, Sequence

import click

from launcher import __version__
from launcher.errors import LauncherError
from launcher.output import discard, echo, open_closed_streams
from rank_table.errors import InventoryError, RankTableError

# name -> (module:attribute, one line of help); a module is imported only when its command runs.
COMMANDS = {
    "run": ("launcher.commands.run:run", "Run a job (the default: `npu-launch --devices 0-7 train.yaml`)."),
    "agent": ("launcher.commands.agent:agent", ""),  # for engines, not for people
    "submit": ("launcher.commands.submit:submit", "Hand a job to a queue: Slurm, Kubernetes, Volcano."),
    "logs": ("launcher.commands.logs:logs", "Print the ranks' logs, merged by time."),
    "report": ("launcher.commands.report:report", "Write a run's page: report.html, one file."),
    "reproduce": (
        "launcher.commands.reproduce:reproduce",
        "Start a run's job again; say what differs on this machine.",
    ),
    "top": ("launcher.commands.top:top", "Show runs and their ranks, live."),
    "ps": ("launcher.commands.runs:ps", "List runs and their processes."),
    "stop": ("launcher.commands.runs:stop", "Stop a run."),
    "stacks": ("launcher.commands.runs:stacks", "Show the Python stacks of the ranks."),
    "compare": ("launcher.commands.compare:compare", "Compare runs, and logs of other programs."),
    "repeat": ("launcher.commands.repeat:repeat", "Run a job with several seeds; test differences."),
    "cases": ("launcher.commands.cases:cases", "Run test cases from a 13-column CSV file."),
    "rank-table": (
        "launcher.commands.rank_table:rank_table",
        "Make, check, show, merge and convert rank tables.",
    ),
    "inventory": (
        "launcher.commands.inventory:inventory",
        "Show this host's devices and where each value comes from.",
    ),
    "ask": ("launcher.commands.ask:ask", "Ask a fine-tuned model questions about a passage."),
    "score": ("launcher.commands.score:score", "Score every checkpoint that a run has kept."),
    "export": ("launcher.commands.export:export", "Write a checkpoint as safetensors or SavedModel."),
    "doctor": ("launcher.commands.doctor:doctor", "Check this host: versions, devices, network, limits."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; a word that is not a command is a job to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items() if text])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] not in ("--help", "-h", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def main(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Any:
        """Run a command; turn every error into one line and its exit code."""
        open_closed_streams()
        try:
            sys.exit(super().main(args, standalone_mode=False))
        except LauncherError as error:
            _fail(error.exit_code, *error.lines)
        except (RankTableError, InventoryError) as error:  # of the user's files, wherever they are read
            _fail(2, str(error))
        except click.ClickException as error:
            _fail(2, f"{error.format_message().rstrip('.')}; see npu-launch --help")
        except (click.Abort, KeyboardInterrupt):
            _fail(130, "interrupted")
        except BrokenPipeError:
            discard(sys.stdout)
            sys.exit(141)
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not _has_directory():
                _fail(2, "the current directory does not exist any more; cd to one that does")
            import traceback

            echo(*traceback.format_exc().splitlines(), err=True)
            _fail(125, "this is a bug in npu-launch; please report the lines above")


def _has_directory() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _fail(code: int, *lines: str) -> NoReturn:
    echo(*(f"npu-launch: {line}" for line in lines), err=True)
    sys.exit(code)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="npu-launch")
def main() -> None:
    """Launch a training program on Ascend NPUs, or on virtual CPU devices if there are none.

    \b
      npu-launch --devices 0-7 train.yaml            one process per device
      npu-launch --devices 0 --debug train.yaml      one process, in the foreground
      npu-launch --devices 0-3 -- sh -c 'echo $RANK_ID'
      npu-launch logs                                the output of the last run, merged by time
    """
