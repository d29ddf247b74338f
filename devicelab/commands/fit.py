"""`devicelab fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import ParameterError, unknown_name
from ..files import replacing, write_text
from ..models import MODELS, model_class
from ..models.base import Model, SeparableModel
from ..parameter_sets import parameter_set, parameter_set_info, parameter_sets
from . import choose, number, parse_window, read_files, say

FITTABLE = [name for name, cls in MODELS.items() if issubclass(cls, SeparableModel)]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--model", "model_name", default="vteam", show_default=True, help=f"One of {', '.join(FITTABLE)}.")
@click.option("--window", default="none", show_default=True, metavar="NAME[:p=2]", help="Window function.")
@click.option("--resistance", type=click.Choice(["linear", "exponential"]), help="Resistance law of VTEAM.")
@click.option("--polarity", type=click.Choice(["1", "-1"]), help="Found from the traces unless given.")
@click.option("--fix", multiple=True, metavar="NAME=VALUE", help="Hold a parameter at a value.")
@click.option("--trace", "index", multiple=True, type=int, help="Use only this trace of the file (from 0); repeat.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--duration", type=float, help="Duration of a sweep [s], for files without time.")
@click.option("--starts", default=4, show_default=True, help="Descents from the best screened points.")
@click.option("--seed", default=0, show_default=True, help="Seed of the screen.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for fit.json, device.toml, fit_N.png, device.subckt."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on standard output.")
def command(
    files: tuple[str, ...],
    model_name: str,
    window: str,
    resistance: str | None,
    polarity: str | None,
    fix: tuple[str, ...],
    index: tuple[int, ...],
    profile: str | None,
    duration: float | None,
    starts: int,
    seed: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Fit a model to measured traces of one device; several files or cycles are fitted together.

    Example: devicelab fit data/oxide_large.csv data/oxide_fast.csv --model vteam --window biolek:p=2 --out out/fit
    """
    traces = choose(read_files(files, profile=profile, duration=duration), index)
    import fits

    held = dict(part.partition("=")[::2] for part in fix)
    template = _template(model_name, window, resistance, {name: number(value, name) for name, value in held.items()})
    result = fits.fit(
        template,
        traces,
        fixed=list(held),
        polarity=int(polarity) if polarity else None,
        starts=starts,
        seed=seed,
        progress=say,
    )
    click.echo(result.to_json() if as_json else result.report())
    if out is not None:
        _write(out, result, force)


def _template(name: str, window: str, resistance: str | None, held: dict[str, float]) -> Model:
    """A device of the class to start from: a published set with the window and the held values put in."""
    model_class(name)  # an unknown name is refused here
    source = next(entry for entry in parameter_sets() if parameter_set_info(entry)["model"] == name)
    changes: dict[str, Any] = {"window": parse_window(window), **held}
    model = parameter_set(source)
    for key in held:
        if key not in model.values():
            raise unknown_name("parameter", key, list(model.values()))
    if resistance is not None:
        if not hasattr(model, "resistance"):
            raise ParameterError(f"{name} has no choice of resistance law", got=resistance)
        changes["resistance"] = resistance
    return model.replace(**changes)


def _write(out: Path, result: object, force: bool) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import fits
    import netlists

    from .. import plot

    if not isinstance(result, fits.FitResult):
        raise TypeError(type(result).__name__)
    out.mkdir(parents=True, exist_ok=True)
    result.to_json(out / "fit.json", force=force)
    write_text(out / "device.toml", result.parameter_set(), force=force)
    write_text(out / "device.subckt", netlists.subckt(result.model), force=force)
    for k, (measured, fitted, mask) in enumerate(zip(result.traces, result.simulate(), result.masks, strict=True)):
        if k >= 8:
            say(f"pictures of the first 8 of {len(result.traces)} traces only")
            break
        with replacing(out / f"fit_{k + 1}.png", force=force) as temporary:
            plot.fit(measured, fitted, mask).savefig(temporary, format="png", dpi=130, bbox_inches="tight")
    say(f"wrote {out}")
