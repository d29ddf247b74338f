"""`devicelab doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..doctor import examine
from . import show_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Check the installation: versions, ngspice, CUDA, and files of our packages that belong to somebody else.

    Exit status 1 when something that everything else needs is broken.

    Example: devicelab doctor
    """
    findings = examine()
    if as_json:
        show_json([finding.__dict__ for finding in findings])
    else:
        for finding in findings:
            mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[finding.state]
            click.echo(f"{mark}  {finding.what:<16} {finding.found}")
            if finding.advice:
                click.echo(f"      {'':<16} {finding.advice}")
        click.echo(f"python {sys.version.split()[0]} at {Path(sys.executable)}")
    if any(finding.state == "bad" for finding in findings):
        sys.exit(1)
