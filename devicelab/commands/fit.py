"""`devicelab fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import ParameterError, unknown_name
from ..models import MODELS, model_class
from ..models.base import Model, TwoStateModel
from ..parameter_sets import parameter_set, parameter_set_info, parameter_sets
from . import choose, fit_modes, number, parse_window, read_files, say
from .fit_out import Out, fingerprint

if TYPE_CHECKING:
    import fits


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "--model",
    "model_name",
    default="vteam",
    show_default=True,
    help=f"all (of one state), or one of {', '.join(MODELS)}.",
)
@click.option("--window", default="none", show_default=True, metavar="NAME[:p=2]", help="Window function.")
@click.option("--resistance", type=click.Choice(["linear", "exponential"]), help="Resistance law of VTEAM.")
@click.option("--polarity", type=click.Choice(["1", "-1"]), help="Found from the traces unless given.")
@click.option("--fix", multiple=True, metavar="NAME=VALUE", help="Hold a parameter at a value.")
@click.option(
    "--drive",
    type=click.Choice(["voltage", "current"]),
    default="voltage",
    show_default=True,
    help="What the instrument prescribed; the other is fitted.",
)
@click.option(
    "--series-resistance",
    metavar="OHM",
    help="Between source and device, for traces of the source's voltage: a value, or fit.",
)
@click.option("--periodic", is_flag=True, help="Each trace is whole periods of a loop that repeats itself.")
@click.option("--robust", is_flag=True, help="Bound what outliers can do (Huber's loss).")
@click.option("--trace", "index", multiple=True, type=int, help="Use only this trace of the file (from 0); repeat.")
@click.option("--profile", help="Instrument profile, by name or TOML file; detected unless given.")
@click.option("--duration", type=float, help="Duration of a sweep [s], for files without time.")
@click.option(
    "--starts",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Descents from the best screened points.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the screen.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for fit.json, device.toml, fit_N.png, device.subckt."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on standard output.")
@fit_modes.options
def command(
    files: tuple[str, ...],
    model_name: str,
    window: str,
    resistance: str | None,
    polarity: str | None,
    fix: tuple[str, ...],
    drive: str,
    series_resistance: str | None,
    periodic: bool,
    robust: bool,
    index: tuple[int, ...],
    profile: str | None,
    duration: float | None,
    starts: int,
    seed: int,
    out: Path | None,
    force: bool,
    as_json: bool,
    compare: bool,
    each: bool,
    each_cycle: bool,
    profiles: bool,
    advise: str | None,
    draws: int | None,
    retry: bool,
    workers: int | None,
    shortlist: int | None,
) -> None:
    """Fit a model to measured traces of one device; several files or cycles are fitted together.

    Example: devicelab fit data/oxide_large.csv data/oxide_fast.csv --model vteam --window biolek:p=2 --out out/fit
    """
    fit_modes.exclusive(compare=compare or model_name == "all", each=each, cycles=each_cycle)
    held = dict(part.partition("=")[::2] for part in fix)
    values = {name: number(value, name) for name, value in held.items()}
    options: dict[str, Any] = {"fixed": list(held), "starts": starts, "seed": seed}
    options |= {"polarity": int(polarity)} if polarity else {}
    options |= {"drive": drive} if drive != "voltage" else {}
    options |= {"series_resistance": _series(series_resistance)} if series_resistance else {}
    options |= {"periodic": True} if periodic else {}
    options |= {"loss": "huber"} if robust else {}
    several = compare or model_name == "all"
    place = None
    if out is not None and not each:
        asked = {
            "files": [str(Path(file).resolve()) for file in files], **options, "model": model_name, "window": window,
            "resistance": resistance, "values": values, "index": index, "profile": profile, "duration": duration,
            "several": several, "cycles": each_cycle, "shortlist": shortlist, "profiles": profiles, "draws": draws,
            "advise": advise,
        }  # fmt: skip
        place = Out(out, force, fingerprint(asked), _names(several, each_cycle, profiles))
    one_state = [name for name, model in MODELS.items() if not issubclass(model, TwoStateModel)]
    wanted = one_state if model_name == "all" else [model_name]
    templates = [_template(name, window, resistance, values) for name in wanted]
    if each:
        template, rest = templates[0], {**options, "workers": workers, "retry": retry}
        reading = {"profile": profile, "duration": duration}
        fit_modes.each(template, files, out, lambda path: read_files((str(path),), **reading), **rest)
        return
    traces = choose(read_files(files, profile=profile, duration=duration), index)
    import fits

    if each_cycle:
        fit_modes.cycles(templates[0], traces, place, workers=workers, **options)
        if place is not None:
            place.done()
        return
    if several:
        laws = [resistance] if resistance else ["linear", "exponential"]
        models = fit_modes.variants(templates, laws)
        most = 6 if shortlist is None and model_name == "all" else shortlist
        result = fit_modes.compare(models, traces, place, workers=workers, shortlist=most, **options)
    else:
        result = fits.fit(templates[0], traces, progress=say, **options)
    click.echo(result.to_json() if as_json else result.report())
    if place is not None:
        _write(place, result)
    fit_modes.after(result, place, profiles, advise, draws, workers)
    if place is not None:
        place.done()
        say(f"wrote {place.path}")


PICTURES = 8
"""Traces that get a picture."""


def _names(several: bool, each_cycle: bool, profiles: bool) -> list[str]:
    """Files that the command may write."""
    if each_cycle:
        return ["cycles.txt", "cycles.png", "agreement.png"]
    names = ["fit.json", "device.toml", "device.subckt", *(f"fit_{k + 1}.png" for k in range(PICTURES))]
    names += ["comparison.txt", "comparison.png"] if several else []
    return names + (["profiles.png"] if profiles else [])


def _series(text: str) -> float | Literal["fit"]:
    return "fit" if text == "fit" else number(text, "--series-resistance")


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


def _write(out: Out, result: fits.FitResult) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import netlists

    from .. import plot

    out.text("fit.json", result.to_json())
    out.text("device.toml", result.parameter_set())
    out.text("device.subckt", netlists.subckt(result.model))
    for k, (measured, fitted, mask) in enumerate(zip(result.traces, result.simulate(), result.masks, strict=True)):
        if k >= PICTURES:
            say(f"pictures of the first {PICTURES} of {len(result.traces)} traces only")
            break
        with out.replacing(f"fit_{k + 1}.png") as temporary:
            plot.fit(measured, fitted, mask).savefig(temporary, format="png", dpi=130, bbox_inches="tight")
