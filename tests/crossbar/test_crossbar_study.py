"""Experiments from files, draws, sensitivity, resumable sweeps and their commands: what they promise."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from crossbar import Config, convert, study
from crossbar.config import NON_IDEALITIES
from crossbar.datasets import Data
from crossbar.experiment import Parts, read_experiment
from crossbar.sweep import SweepResult, run_sweep
from devicelab.cli import main
from devicelab.errors import FileFormatError, LutError, ParameterError, ShapeError

EXPERIMENT = """
[data]
name = "digits"
images = 60
[network]
name = "digits-mlp"
epochs = 2
[device]
r_on = 1e4
r_off = 1e5
[config]
rows = 32
columns = 32
nonlinear = false
[config.devices]
stuck_off = 0.0
[sweep]
draws = 2
[sweep.grid]
"config.devices.stuck_on" = [0.0, 0.3]
"device.r_off" = [1e5, 2e4]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    file = tmp_path / "experiment.toml"
    file.write_text(EXPERIMENT)
    return file


def test_every_combination_is_a_point_and_every_setting_counts(experiment: Path) -> None:
    _, points = read_experiment(experiment)
    assert [tuple(point.values.values()) for point in points] == [(0.0, 1e5), (0.0, 2e4), (0.3, 1e5), (0.3, 2e4)]
    assert points[2].experiment.config.devices.stuck_on == 0.3
    assert points[1].experiment.device.r_off == 2e4
    keys = {point.experiment.key(draw) for point in points for draw in range(2)}
    assert len(keys) == 8
    # a title or a longer grid change nothing that is stored
    experiment.write_text('title = "other"\n' + EXPERIMENT.replace("0.3]", "0.3, 0.5]"))
    assert keys < {point.experiment.key(draw) for point in read_experiment(experiment)[1] for draw in range(2)}


def test_files_count_by_content_not_by_name(tmp_path: Path) -> None:
    text = EXPERIMENT.replace('name = "digits-mlp"', 'name = "digits-mlp"\nweights = "w.pt"').split("[sweep]")[0]
    keys = []
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.pt").write_bytes(content)
        (tmp_path / folder / "e.toml").write_text(text)
        keys.append(read_experiment(tmp_path / folder / "e.toml")[0].key(0))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stuck_off = 0.0", "stuck_of = 0.1", r"config.devices(.|\n)*did you mean stuck_off"),
        ("rows = 32", "rows = 0", r"the file.config: rows must be positive"),
        ('"device.r_off"', '"device.roff"', r"name in the grid(.|\n)*device.r_off"),
        ('"device.r_off"', '"sweep.draws"', "name in the grid"),
        ("[1e5, 2e4]", "1e5", "not a list"),
        ("[1e5, 2e4]", "[1e5, 1.0]", "r_on must be below r_off"),
        ('name = "digits-mlp"', 'name = "digits-mlp"\nfactory = "a:b"', "one network is needed"),
        ("[data]", "[data", "not a TOML file"),
        ("draws = 2", "draws = 0", "draws must be positive"),
    ],
)
def test_a_bad_experiment_is_refused_before_anything_runs(old: str, new: str, words: str, experiment: Path) -> None:
    assert old in EXPERIMENT
    experiment.write_text(EXPERIMENT.replace(old, new, 1))
    with pytest.raises((ParameterError, FileFormatError), match=words):
        read_experiment(experiment)


class Interrupted(Exception):
    pass


def test_a_sweep_that_was_stopped_goes_on_and_gives_the_same(experiment: Path, tmp_path: Path) -> None:
    whole = run_sweep(experiment, tmp_path / "whole")

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_sweep(experiment, tmp_path / "parts", progress=stop)
    assert len(list((tmp_path / "parts" / "draws").glob("*.json"))) == 3
    resumed = run_sweep(experiment, tmp_path / "parts")
    assert resumed.reused == 3
    numbers = [
        [(one.seed, one.right, one.error) for case in result.cases for one in case.draws] for result in (whole, resumed)
    ]
    assert numbers[0] == numbers[1]
    for name in ("results.csv", "results.json", "accuracy.png", "index.html"):
        assert (tmp_path / "parts" / name).stat().st_size > 100
    rows = json.loads((tmp_path / "parts" / "results.json").read_text())["points"]
    assert [row["config.devices.stuck_on"] for row in rows] == ["0", "0", "0.3", "0.3"]
    assert run_sweep(experiment, tmp_path / "parts").reused == 8


def test_a_damaged_store_is_not_believed(experiment: Path, tmp_path: Path) -> None:
    run_sweep(experiment, tmp_path / "out")
    file = next((tmp_path / "out" / "draws").glob("*.json"))
    file.write_text(file.read_text()[:50])
    with pytest.raises(FileFormatError, match="stored draw is damaged"):
        run_sweep(experiment, tmp_path / "out")


@pytest.fixture
def small() -> tuple[nn.Module, Data]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 3
    x = 0.5 * torch.rand(80, 6, generator=generator) + torch.eye(6)[y]
    data = Data("small", x[:60], y[:60], x[60:], y[60:])
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.4, 0.4, generator=generator)
    return study.train(net, data, epochs=80, rate=0.02, batch=10), data


def test_training_learns_and_repeats_itself(small: tuple[nn.Module, Data]) -> None:
    net, data = small
    assert float((study.outputs(net, data.test_x).argmax(1) == data.test_y).float().mean()) > 0.9
    nets = [study.train(deepcopy(net), data, epochs=2, seed=seed, batch=10) for seed in (5, 5, 6)]
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert not torch.equal(nets[0][0].weight, nets[2][0].weight)


def test_sensitivity_switches_one_at_a_time(small: tuple[nn.Module, Data], experiment: Path) -> None:
    net, data = small
    lut = read_experiment(experiment)[0].device.table()
    config = Config(rows=8, columns=8, nonlinear=False).but(devices__stuck_on=0.5, devices__levels=64)
    found = study.sensitivity(net, lut, config, data, draws=3)
    assert list(found.alone) == list(found.without) == ["levels", "stuck on"]
    assert set(NON_IDEALITIES) >= study.CHANCE
    assert [len(one.draws) for one in (found.alone["levels"], found.alone["stuck on"])] == [1, 3]
    assert found.none.error < 0.01  # test inputs beyond the calibration's are clipped
    assert found.alone["levels"].error < 0.05
    assert found.alone["stuck on"].error > 0.3
    assert found.without["stuck on"].error == pytest.approx(found.alone["levels"].error)  # two: alone is all but other
    assert len(found.rows()) == 7
    assert "stuck on alone" in str(found)
    figure = found.figure()
    assert len(figure.axes) == 2
    with pytest.raises(ParameterError, match="no non-ideality"):
        study.sensitivity(net, lut, config.only(), data)


def test_layer_errors_are_those_computed_by_hand(small: tuple[nn.Module, Data], experiment: Path) -> None:
    net, data = small
    lut = read_experiment(experiment)[0].device.table()
    mapped = convert(
        net, lut, Config(rows=8, columns=8, nonlinear=False).but(devices__d2d=0.2), calibration=data.train_x
    )
    with torch.no_grad():
        first, second = study.layer_errors(net, mapped, data.test_x)
        hidden = net[:2](data.test_x)
        exact, own_inputs, real = net(data.test_x), mapped[2](hidden), mapped(data.test_x)
    assert first.own == first.with_inputs  # its inputs are right
    assert second.own == pytest.approx(float((own_inputs - exact).norm() / exact.norm()), rel=1e-5)
    assert second.with_inputs == pytest.approx(float((real - exact).norm() / exact.norm()), rel=1e-5)
    assert second.snr == pytest.approx(-20 * math.log10(second.own), rel=1e-5)
    single = nn.Linear(6, 3)
    assert len(study.layer_errors(single, convert(single, lut, Config(nonlinear=False)), data.test_x)) == 1
    with pytest.raises(ParameterError, match="do not belong together"):
        study.layer_errors(nn.Sequential(nn.ReLU()), mapped, data.test_x)


def test_inputs_that_do_not_fit_are_explained(small: tuple[nn.Module, Data]) -> None:
    with pytest.raises(ShapeError, match="fails on these inputs"):
        study.outputs(small[0], torch.rand(4, 7))


def test_trained_weights_are_kept(experiment: Path, tmp_path: Path) -> None:
    base = read_experiment(experiment)[0]
    lines: list[str] = []
    nets = [Parts(folder=tmp_path, say=lines.append).network(base) for _ in range(2)]
    assert len(lines) == 1
    assert torch.equal(nets[0][1].weight, nets[1][1].weight)


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(args)
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def test_the_commands_run_an_experiment(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    code, text, _ = run(["sweep", str(experiment), "--out", out, "--check"], capsys)
    assert (code, text.split(": ")[-1]) == (0, "8 draws to run\n")
    code, text, _ = run(["sweep", str(experiment), "--out", out], capsys)
    assert code == 0
    assert len(text.splitlines()) == 5
    code, text, errors = run(["sweep", str(experiment), "--out", out], capsys)
    assert "8 of 8 draws were stored already" in errors
    code, text, errors = run(["infer", "--config", str(experiment)], capsys)
    assert (code, "use devicelab sweep" in errors) == (1, True)
    experiment.write_text(EXPERIMENT.split("[sweep.grid]")[0])
    args = ["infer", "--config", str(experiment), "--rows", "16", "--layers", "--images", "40", "--json"]
    code, text, _ = run(args, capsys)
    assert code == 0
    found = json.loads(text)
    assert [row["arrays"] for row in found["accuracy"]] == ["floating point", "arrays"]
    assert "(40)" in found["accuracy"][0]["interval"]
    assert len(found["layers"]) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["infer"], "no device"),
        (["infer", "--draws", "3"], "need a network"),
        (["infer", "--network", "lenett", "--data", "digits", "--config", "E"], "did you mean lenet"),
        (["infer", "--network", "a:b", "--config", "E"], "would run code"),
        (["infer", "--network", "lenet"], "no data"),
        (["sweep", "missing.toml", "--out", "x"], "No such file"),
    ],
)
def test_wrong_use_is_explained(
    args: list[str], words: str, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(EXPERIMENT.split("[sweep.grid]")[0])
    code, _, errors = run([str(experiment) if arg == "E" else arg for arg in args], capsys)
    assert code == 1
    assert words in errors
    assert "Traceback" not in errors


TIMES = "seconds", "peak memory [MB]"


def numbers(result: SweepResult) -> list[tuple[int, int, float]]:
    return [(one.seed, one.right, one.error) for case in result.cases for one in case.draws]


def test_processes_change_no_bit_and_stop_when_asked(experiment: Path, tmp_path: Path) -> None:
    one = run_sweep(experiment, tmp_path / "one", workers=1)

    def stop(done: int, count: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(experiment, tmp_path / "two", workers=2, progress=stop)
    stored = len(list((tmp_path / "two" / "draws").glob("*.json")))
    assert 3 <= stored < 8  # those that ran were stored, those that waited were dropped
    two = run_sweep(experiment, tmp_path / "two", workers=2)
    assert two.reused == stored
    assert numbers(one) == numbers(two)
    tables = [list(csv.DictReader((tmp_path / name / "results.csv").open())) for name in ("one", "two")]
    for a, b in zip(*tables, strict=True):
        assert {k: v for k, v in a.items() if k not in TIMES} == {k: v for k, v in b.items() if k not in TIMES}


def test_a_draw_that_is_refused_stops_a_sweep_of_processes(experiment: Path, tmp_path: Path) -> None:
    """What is wrong at one point shows when it is written: the others that ran are stored."""
    experiment.write_text(EXPERIMENT.replace('"device.r_off" = [1e5, 2e4]', '"config.g_high" = [1e-4, 2e-4]'))
    with pytest.raises(LutError, match="outside what the device can do"):
        run_sweep(experiment, tmp_path / "out", workers=2)
    kept = list((tmp_path / "out" / "draws").glob("*.json"))
    assert 0 < len(kept) <= 4
    with pytest.raises(ParameterError, match="workers must be at least 1"):
        run_sweep(experiment, tmp_path / "out", workers=0)


def test_sensitivity_is_the_same_over_processes(small: tuple[nn.Module, Data], experiment: Path) -> None:
    net, data = small
    point = read_experiment(experiment)[0]
    lut, config = point.device.table(), point.config.but(devices__stuck_on=0.1, adc__bits=5)
    found = [study.sensitivity(net, lut, config, data, draws=2, images=40, workers=n) for n in (1, 2)]
    for a, b in zip(found[0].cases(), found[1].cases(), strict=True):
        assert a.name == b.name
        assert [(d.seed, d.right, d.error) for d in a.draws] == [(d.seed, d.right, d.error) for d in b.draws]
    assert list(found[0].alone) == ["stuck on", "adc"]
    assert len(found[0].all.draws) == 2


@pytest.mark.slow
def test_a_sweep_that_was_killed_leaves_no_process_behind(experiment: Path, tmp_path: Path) -> None:
    experiment.write_text(EXPERIMENT.replace("draws = 2", "draws = 20"))
    command = [
        sys.executable,
        "-m",
        "devicelab.cli",
        "sweep",
        str(experiment),
        "--out",
        str(tmp_path),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    draws = tmp_path / "draws"
    while process.poll() is None and len(list(draws.glob("*.json")) if draws.is_dir() else []) < 5:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ids = children.read_text().split() if children.exists() else []
    process.kill()
    process.wait()
    time.sleep(2.0)
    assert not [n for n in ids if (p := Path(f"/proc/{n}/cmdline")).exists() and b"sweep" in p.read_bytes()]
    stored = len(list(draws.glob("*.json")))
    assert 5 <= stored < 80
    assert run_sweep(experiment, tmp_path, workers=2).reused == stored


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_and_gives_the_same(experiment: Path, tmp_path: Path) -> None:
    experiment.write_text(EXPERIMENT.replace("draws = 2", "draws = 20"))
    whole = run_sweep(experiment, tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "devicelab.cli",
        "sweep",
        str(experiment),
        "--out",
        str(tmp_path / "parts"),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    draws = tmp_path / "parts" / "draws"
    while process.poll() is None and len(list(draws.glob("*.json")) if draws.is_dir() else []) < 5:
        time.sleep(0.01)
    process.kill()
    process.wait()
    stored = len(list(draws.glob("*.json")))
    assert 5 <= stored < 80
    resumed = run_sweep(experiment, tmp_path / "parts")
    assert resumed.reused == stored
    assert [case.accuracy for case in resumed.cases] == [case.accuracy for case in whole.cases]
    assert [case.error for case in resumed.cases] == [case.error for case in whole.cases]


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Flatten(), "no parameters to train"),
        (nn.Linear(5, 10), "fails on these inputs"),
        (nn.Linear(64, 3), "does not score the classes"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused(net: nn.Module, words: str) -> None:
    x, y = torch.rand(20, 64), torch.arange(20) % 10
    with pytest.raises((ParameterError, ShapeError), match=words):
        study.train(net, Data("random", x, y, x, y), epochs=1)


def test_a_program_for_other_inputs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = torch.export.Dim("b")
    program = torch.export.export(nn.Linear(5, 10), (torch.rand(4, 5),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    file = tmp_path / "e.toml"
    file.write_text(
        '[data]\nname = "digits"\n[network]\nprogram = "net.pt2"\n[device]\nr_on = 1e4\nr_off = 1e5\n'
        "[config]\nnonlinear = false\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["infer", "--config", str(file)])
    assert stop.value.code == 1
    assert "fails on these inputs" in capsys.readouterr().err
