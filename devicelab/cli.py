"""The command line: each sub-command is imported when it is called, so that `--help` is instant."""

from __future__ import annotations

import _thread
import importlib
import sys
import threading
from types import TracebackType
from typing import Any

import click

from . import __version__
from .errors import DevicelabError

COMMANDS = {
    "doctor": "Check the installation: versions, ngspice, CUDA, foreign files.",
    "simulate": "Simulate a device under a sine, a triangle or pulses.",
    "spice": "Emit a device as an ngspice sub-circuit, run it, compare.",
    "characterize": "Numbers, statistics and figures of loops, pulses, endurance, retention, read noise.",
    "fit": "Fit a model to measured traces.",
    "plot": "Figures of instrument files: loops, distributions, pulses, retention, noise, wafer maps.",
    "lut": "Make and inspect lookup tables.",
    "infer": "Put a network on arrays of a device: accuracy, sensitivity, estimate.",
    "sweep": "Run an experiment over a grid of settings; resumable.",
    "demo": "The whole story in one command.",
}


class LazyGroup(click.Group):
    """A group whose commands live in `devicelab.commands.NAME` and are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"devicelab.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names for a misspelt one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="devicelab")
def cli() -> None:
    """Memristors from measured trace to network accuracy.

    Results go to standard output, progress to standard error. Exit status: 0 success, 1 a problem that the message
    explains, 2 wrong usage.
    """


def _heed_interrupts() -> None:
    """Let an interrupt count that compiled code would print and forget, as scipy's Sobol sequences do."""
    shown, ignored = sys.excepthook, sys.unraisablehook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            shown(kind, error, trace)

    def ignore(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, _thread.interrupt_main).start()  # not in here, where it would be forgotten again
        else:
            ignored(what)

    sys.excepthook, sys.unraisablehook = show, ignore


def main(args: list[str] | None = None) -> Any:
    """Entry point: our errors become a message and exit status 1, never a traceback."""
    _heed_interrupts()
    try:
        return cli.main(args=args, standalone_mode=True)
    except DevicelabError as error:
        click.echo(f"error: {error}", err=True)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        click.echo(f"error: {error.strerror or error}\n  got:     {error.filename}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
