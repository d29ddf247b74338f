"""Every other tool gets the same device: run for real where the tool is here, read back in any case."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from types import ModuleType

import lut_samples
import numpy as np
import pytest

import netlists
from devicelab import Lut
from devicelab.errors import LutError
from devicelab.lut import aihwkit, columns, cross_sim, memtorch, neurosim, verilog_a, xbtorch
from devicelab.lut.compare import diff
from devicelab.lut.pulses import after_pulse
from netlists import lut as spice

EXACT = 1e-12
"""Sums in another order."""
SAMPLES = 4000
FOUR_SIGMA = 4 / np.sqrt(2 * SAMPLES)
"""Four standard errors of a standard deviation, relative."""

needs_ngspice = pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")


@pytest.fixture(scope="module")
def table() -> Lut:
    return lut_samples.full()


@pytest.fixture(scope="module")
def moving() -> Lut:
    return lut_samples.programmable()


def points(table: Lut, count: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(table.voltage[0], table.voltage[-1], count), rng.uniform(0, 1, count)


def test_csv_comes_back_bit_for_bit(table: Lut, tmp_path: Path) -> None:
    columns.write(table, tmp_path / "a.csv")
    back = columns.read(tmp_path / "a.csv")
    found = diff(table, back)
    assert found["current"] == 0.0
    assert found["device"] == found["provenance"] == {}
    assert set(found["content"]) == {"levels", "curves", "rate", "factors"}
    np.testing.assert_array_equal(back.table, table.table)


@pytest.mark.parametrize(
    "text", ["", "a,b,c\n1,2,3\n", f"{columns.HEADER}\n0,0,x\n", f"{columns.HEADER}\n0,0,0\n1,1,1\n"]
)
def test_another_csv_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(LutError):
        columns.read(tmp_path / "a.csv")


def test_verilog_a_data_are_the_nodes_in_the_order_of_the_standard(table: Lut, tmp_path: Path) -> None:
    verilog_a.write(table, tmp_path / "cell.va")
    text = (tmp_path / "cell.va").read_text()
    assert '$table_model(x0, V(plus, minus), "cell.tbl", "1E,3E")' in text
    x, v, i = np.loadtxt(tmp_path / "cell.tbl").T
    assert (np.lexsort((v, x)) == np.arange(len(x))).all()  # state outermost, voltage fastest
    np.testing.assert_array_equal(i.reshape(table.table.shape), table.table)
    np.testing.assert_array_equal(verilog_a.read(tmp_path / "cell.va").table, table.table)


def test_neurosim_reads_what_it_expects(table: Lut, tmp_path: Path) -> None:
    neurosim.write(table, tmp_path / "cell.txt")
    found = neurosim.read(tmp_path / "cell.txt")
    low, high = table.conductance_range(lut_samples.V_READ)
    assert found["resistanceOn"] == pytest.approx(1 / high, rel=EXACT)
    assert found["resistanceOff"] == pytest.approx(1 / low, rel=EXACT)
    assert (found["maxNumLevelLTP"], found["cellBit"], found["nonlinearIV"]) == (5, 2, True)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_crosssim_multiplies_with_the_table(table: Lut, tmp_path: Path) -> None:
    """CrossSim's own core with non-linear cells, against the sum of the table's currents."""
    pytest.importorskip("simulator.cores.analog_core", reason="CrossSim is not installed")
    from simulator import AnalogCore, CrossSimParameters

    cross_sim.write(table, tmp_path / "devicelab_table.py")
    device = load(tmp_path / "devicelab_table.py").DevicelabTable
    params = CrossSimParameters()
    own = params.xbar.device
    own.Rmin, own.Rmax, own.Vread = device.RMIN, device.RMAX, device.VREAD
    own.nonlinear_IV.enable, own.nonlinear_IV.model = True, "DevicelabTable"
    params.simulation.disable_fast_nonlinear_IV = True
    params.core.style = "OFFSET"
    params.core.mapping.weights.percentile = None
    params.core.mapping.weights.min, params.core.mapping.weights.max = -1.0, 1.0
    params.core.mapping.inputs.mvm.min, params.core.mapping.inputs.mvm.max = -1.0, 1.0
    rng = np.random.default_rng(0)
    weights, inputs = rng.uniform(-1, 1, (6, 8)), rng.uniform(-1, 1, 8)
    low, high = table.conductance_range(device.VREAD)

    core = AnalogCore(weights, params)
    got = core @ inputs
    g = low + (high - low) * (weights + 1) / 2
    v = device.VREAD * inputs
    current = table.current(v[None, :], table.state_for(g)).sum(axis=1)
    expected = (current / device.VREAD - low * inputs.sum()) * 2 / (high - low) - inputs.sum()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # float32 inside
    assert np.abs(expected - weights @ inputs).max() > 1e-3  # and non-linear it is


def stub(name: str, **content: object) -> ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    return module


def test_crosssim_class_is_the_table_in_crosssims_units(
    table: Lut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented interface (devices/readme.md) without CrossSim: normalised conductance and voltage."""

    class EmptyDevice:
        def __init__(self, device_params: object, _: object) -> None:
            self.device_params, self.on_off_ratio = device_params, device_params.Rmax / device_params.Rmin
            self.Gmin_norm, self.Grange_norm = 1 / self.on_off_ratio, 1 - 1 / self.on_off_ratio

    for name in ("simulator", "simulator.devices"):
        monkeypatch.setitem(sys.modules, name, stub(name))
    monkeypatch.setitem(sys.modules, "simulator.devices.idevice", stub("idevice", EmptyDevice=EmptyDevice))
    cross_sim.write(table, tmp_path / "device.py")
    kind = load(tmp_path / "device.py").DevicelabTable
    device = kind(types.SimpleNamespace(Rmin=kind.RMIN, Rmax=kind.RMAX, Vread=kind.VREAD), None)
    v, x = points(table)
    v = v * kind.VREAD / table.voltage[-1]
    g = table.current(kind.VREAD, x) / kind.VREAD
    got = device.nonlinear_current(g * kind.RMIN, v / kind.VREAD)
    np.testing.assert_allclose(got * kind.VREAD / kind.RMIN, table.current(v, x), rtol=1e-9, atol=1e-18)
    np.random.seed(0)  # noqa: NPY002 - CrossSim draws from the global generator
    target = np.full(SAMPLES, table.levels.conductance[2] * kind.RMIN)
    spread = device.programming_error(target).std() / target[0]
    assert spread == pytest.approx(table.levels.spread()[2], rel=FOUR_SIGMA)
    np.testing.assert_array_equal(cross_sim.read(tmp_path / "device.py").table, table.table)


def test_memtorch_class_is_the_table(table: Lut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface of MemTorch 1.1.6's abstract Memristor; MemTorch itself if it is installed."""
    if importlib.util.find_spec("memtorch") is None:

        class Memristor:
            def __init__(self, r_off: float, r_on: float, resolution: float, high: float = 0, low: float = 0) -> None:
                self.r_off, self.r_on, self.time_series_resolution, self.g = r_off, r_on, resolution, None

        for name in ("memtorch", "memtorch.bh", "memtorch.bh.memristor"):
            monkeypatch.setitem(sys.modules, name, stub(name))
        monkeypatch.setitem(sys.modules, "memtorch.bh.memristor.Memristor", stub("m", Memristor=Memristor))
    memtorch.write(table, tmp_path / "device.py")
    device = load(tmp_path / "device.py").DevicelabTable()
    low, high = table.conductance_range(lut_samples.V_READ)
    assert (device.r_on, device.r_off) == pytest.approx((1 / high, 1 / low))
    device.set_conductance(table.levels.conductance[1])
    v = np.linspace(-0.5, 0.5, 7)
    expected = table.current(v, table.state_for(table.levels.conductance[1]))
    np.testing.assert_allclose(device.simulate(v, return_current=True), expected, rtol=1e-9, atol=1e-20)
    device.set_conductance(1.0)
    assert device.g == pytest.approx(high)
    np.testing.assert_array_equal(memtorch.read(tmp_path / "device.py").table, table.table)


def test_aihwkit_file_comes_back_as_levels(table: Lut, tmp_path: Path) -> None:
    aihwkit.write(table, tmp_path / "a.json")
    back = aihwkit.read(tmp_path / "a.json")
    np.testing.assert_allclose(back.conductance, table.levels.conductance, rtol=EXACT)
    np.testing.assert_allclose(back.d2d, table.levels.spread(), rtol=EXACT)


def test_aihwkit_programs_with_the_spread_of_the_levels(table: Lut, tmp_path: Path) -> None:
    noise = pytest.importorskip("aihwkit.inference.noise.custom", reason="aihwkit is not installed")
    import torch

    aihwkit.write(table, tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    model = noise.StateIndependentNoiseModel(**found["noise_model"])
    torch.manual_seed(0)
    for g, deviation in zip(found["levels"], found["spread"], strict=True):
        target = torch.full((SAMPLES,), g, dtype=torch.float64)
        got = float(model.apply_programming_noise_to_conductance(target).std())
        assert abs(got - deviation) < found["fit_error"] + FOUR_SIGMA * deviation
        drifted = model.apply_drift_noise_to_conductance(target, torch.zeros(SAMPLES), aihwkit.T_READ_NOISE - 20.0)
        assert float(drifted.std()) == pytest.approx(0.01 * g, rel=FOUR_SIGMA)  # read noise of 1 % was put in


PULSE, WIDTH = (-1.0, 1.0), 2e-3


def test_aihwkit_pulses_move_the_conductance_as_the_rates_do(moving: Lut) -> None:
    """The documented update of PiecewiseStepDevice, w += dw_min (linear interpolation of the nodes at w), by hand."""
    device = aihwkit.parameters(moving, v_pulse=PULSE, width=WIDTH)["pulsed_device"]
    low, high = moving.conductance_range(lut_samples.V_READ)
    nodes = np.linspace(device["w_min"], device["w_max"], aihwkit.NODES)
    for v, sign, name in zip(PULSE, (1, -1), ("piecewise_up", "piecewise_down"), strict=True):
        w = np.linspace(-0.8, 0.8, 9)
        g = low + (high - low) * (w + 1) / 2
        start = w.copy()
        for _ in range(5):
            w = w + sign * device["dw_min"] * np.interp(w, nodes, device[name])
            g = after_pulse(moving, g, v, WIDTH)
        moved = 2 * (g - low) / (high - low) - 1 - start
        assert np.abs(moved).max() > 1e-3
        np.testing.assert_allclose(w - start, moved, atol=0.03 * np.abs(moved).max())  # linear between 33 nodes


def test_aihwkit_accepts_the_pulsed_device(moving: Lut) -> None:
    devices = pytest.importorskip("aihwkit.simulator.configs.devices", reason="aihwkit is not installed")
    from aihwkit.simulator.parameters.enums import RPUDataType

    found = aihwkit.parameters(moving, v_pulse=PULSE, width=WIDTH)["pulsed_device"]
    assert devices.PiecewiseStepDevice(**found).as_bindings(RPUDataType.FLOAT) is not None


def test_xbtorch_tables_have_the_mean_change_of_the_rates(moving: Lut, tmp_path: Path) -> None:
    xbtorch.write(moving, tmp_path / "cell", v_pulse=PULSE, width=WIDTH)
    found = xbtorch.read(tmp_path / "cell")
    for name, v in zip(("set", "reset"), PULSE, strict=True):
        g, axis, cdf = (found[f"{name}_{part}"] for part in xbtorch.PARTS)
        mean = (np.diff(cdf, axis=1, prepend=0.0) * axis).sum(axis=1)
        step = axis[1] - axis[0]
        np.testing.assert_allclose(mean, after_pulse(moving, g, v, WIDTH) - g, atol=step)
    assert np.abs(after_pulse(moving, g, v, WIDTH) - g).max() > 3 * step
    (tmp_path / "cell_set_cdf.txt").write_text("0.5 0.2\n")
    with pytest.raises(LutError, match="do not fit"):
        xbtorch.read(tmp_path / "cell")


def netlist(table: Lut, head: str, v: np.ndarray, x: np.ndarray) -> str:
    cells = [
        f"V{k} n{k} 0 {a!r}\nX{k} n{k} 0 lut x0={b!r}"
        for k, (a, b) in enumerate(zip(v.tolist(), x.tolist(), strict=True))
    ]
    return "\n".join(["lookup table", head, ".options reltol=1e-9 abstol=1e-18", *cells, ".op", ".end", ""])


def currents(text: str, count: int) -> np.ndarray:
    found = netlists.run(text)
    return -np.array([float(found[f"i(v{k})"][0]) for k in range(count)])


@needs_ngspice
@pytest.mark.spice
def test_the_subcircuit_is_the_table_in_ngspice(table: Lut) -> None:
    v, x = points(table)
    got = currents(netlist(table, spice.subckt(table), v, x), v.size)
    largest = np.abs(table.current(table.voltage[-1], x))
    assert (np.abs(got - table.current(v, x)) / largest).max() < 1e-7


@needs_ngspice
@pytest.mark.spice
def test_table2d_is_bilinear_between_the_nodes_in_ngspice(table: Lut, tmp_path: Path) -> None:
    from scipy.interpolate import RegularGridInterpolator

    v, x = points(table)
    head = spice.table2d(table, tmp_path / "cell.table")
    got = currents(netlist(table, head, v, x), v.size)
    expected = RegularGridInterpolator((table.state, table.voltage), table.table)(np.stack([x, v], axis=1))
    largest = np.abs(table.current(table.voltage[-1], x))
    assert (np.abs(got - expected) / largest).max() < 1e-6
    np.testing.assert_array_equal(spice.read_table2d(tmp_path / "cell.table").table, table.table)


@needs_ngspice
@pytest.mark.spice
def test_an_array_of_table_cells_in_ngspice_is_the_torch_engine() -> None:
    torch = pytest.importorskip("torch")
    import crossbar

    table = lut_samples.full(1e-3)
    rng = np.random.default_rng(0)
    cells = crossbar.LutCells(table, torch.tensor(rng.uniform(0, 1, (16, 16))))
    wires = crossbar.Wires(r_wl=2.0, r_bl=2.0, r_source=10.0, r_sense=10.0)
    v_in = torch.tensor(rng.uniform(0.1, 0.5, 16))
    solution = crossbar.solve(cells, v_in, wires)
    text = netlists.crossbar(cells, v_in, wires)
    states = {f"{i}_{j}": float(cells.x[i, j]) for i in range(16) for j in range(16)}
    text = re.sub(
        r"(?m)^bc(\d+_\d+) (\S+) (\S+) .*$", lambda m: f"xc{m[1]} {m[2]} {m[3]} lut x0={states[m[1]]!r}", text
    )
    text = re.sub(r"(?m)^\.func phi.*\n", "", text).replace(".op\n", spice.subckt(table) + ".op\n")
    assert text.count(" lut x0=") == 256
    found = netlists.run(text)
    got = np.array([float(found[f"i(vo{j})"][0]) for j in range(16)])
    expected = solution.i_out.numpy().ravel()
    assert np.abs(got / expected - 1).max() < max(1e-4, table.error)
    assert np.abs(got / expected - 1).max() < 1e-6  # what it is, far below what is asked


@pytest.mark.parametrize(
    "target", ["csv", "verilog-a", "neurosim", "aihwkit", "crosssim", "memtorch", "xbtorch", "subckt", "table2d"]
)
def test_the_command_line_writes_every_format(table: Lut, tmp_path: Path, target: str) -> None:
    table.save(tmp_path / "a.h5")
    more = ["--pulse", "0.55", "-0.55", "--width", "2e-9"] if target == "xbtorch" else []
    command = [
        sys.executable,
        "-m",
        "devicelab.cli",
        "lut",
        "convert",
        str(tmp_path / "a.h5"),
        str(tmp_path / "out.va"),
    ]
    done = subprocess.run([*command, "--to", target, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.iterdir())) > 1
