"""The estimate of energy, latency and area: its counts by hand, its arrays by circuit theory, trends by NeuroSim."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from crossbar import Config, Wires, convert
from crossbar.config import ADC, DAC
from crossbar.estimate import COMPONENTS, DEFAULT, NOTE, Estimate, Technology, estimate
from devicelab import VTEAM, Lut
from devicelab.errors import ParameterError

R_ON, R_OFF, V = 6e3, 9e5, 0.5
"""NeuroSim's default RRAM."""
REFERENCE = Path(__file__).parents[1] / "golden" / "neurosim_v13.csv"


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(VTEAM(r_on=R_ON, r_off=R_OFF, v_on=-2, v_off=2, k_on=1, k_off=1), 1.0)


def test_the_energy_of_an_array_is_that_of_its_resistors(lut: Lut) -> None:
    # all weights equal: one array of R_on, one of R_off, every line at v_read: E = n m v^2 (1/R_on + 1/R_off) t
    layer = nn.Linear(16, 8, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    mapped = convert(layer, lut, Config(rows=16, columns=8, v_read=V, nonlinear=False))
    found = estimate(mapped, torch.ones(3, 16))
    read_time = Technology.load().array.read_time
    expected = 16 * 8 * V**2 * (1 / R_ON + 1 / R_OFF) * read_time
    assert found.energy["array"] == pytest.approx(expected, rel=1e-4)  # states come from a table
    # half the voltage, a quarter of the energy
    half = estimate(convert(layer, lut, Config(rows=16, columns=8, v_read=V / 2, nonlinear=False)), torch.ones(1, 16))
    assert half.energy["array"] == pytest.approx(expected / 4, rel=1e-4)
    # a line in series takes current away: here R_on / 16 at each driver
    lines = Wires(r_source=R_ON / 16)
    loaded = convert(layer, lut, Config(rows=16, columns=8, v_read=V, nonlinear=False, wires=lines))
    row = 8 / R_ON
    shared = 16 * V**2 * (1 / (R_ON / 16 + 1 / row) + 1 / (R_ON / 16 + 1 / (8 / R_OFF))) * read_time
    assert estimate(loaded, torch.ones(1, 16)).energy["array"] == pytest.approx(shared, rel=1e-3)


def test_conversions_and_reads_are_counted_as_by_hand(lut: Lut) -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 5))
    x = torch.rand(2, 4, 6, 6)
    base = Config(rows=16, columns=4, v_read=V, nonlinear=False)
    conv, dense = estimate(convert(net, lut, base), x).layers
    assert conv.vectors == 16  # 4 x 4 positions
    assert conv.conversions == 16 * 3 * 6  # 36 inputs on tiles of 16 rows: three partial sums
    assert conv.arrays == 2 * 3 * 2
    assert dense.conversions == 6 * 5
    analog = estimate(convert(net, lut, base.but(partial_sums="analog")), x).layers[0]
    assert analog.conversions == 16 * 6
    digital = estimate(convert(net, lut, base.but(subtraction="digital")), x).layers[0]
    assert digital.conversions == 2 * conv.conversions
    serial = estimate(convert(net, lut, base.but(dac=DAC(bits=8, encoding="bit-serial"))), x)
    assert serial.layers[0].conversions == 7 * conv.conversions  # seven bits and a sign
    technology = Technology.load()
    assert serial.energy["adc"] == pytest.approx(
        sum(layer.conversions for layer in serial.layers) * technology.adc.at(10)[0]
    )
    assert serial.products == 16 * 36 * 6 + 96 * 5


def test_beyond_its_table_a_converter_goes_on_geometrically() -> None:
    adc = Technology.load().adc
    assert adc.at(8) == (1.67e-12, 1200e-12)
    assert adc.at(11)[0] == pytest.approx(2.38e-12 * 2.38 / 1.97)
    assert adc.at(3)[0] == pytest.approx(0.79e-12 * 0.79 / 0.99)
    # Walden's figure of merit stays above the record of 4.4 fJ a step (Jonsson's survey of 2011) up to 8 bits
    assert all(adc.at(bits)[0] / 2**bits > 4.4e-15 for bits in range(4, 9))


def test_isaacs_share_of_converters_comes_out() -> None:
    # Shafiee et al. (2016), table I: of 24.1 mW in one unit of 8 arrays 16 mW are converters, at 8 x 128 x 1e7 x 1.2
    # conversions a second; drivers 4 mW
    technology = Technology.load()
    assert 8 * 1.2e9 * technology.adc.at(8)[0] == pytest.approx(16e-3, rel=0.01)
    assert 8 * technology.adc.at(8)[1] == pytest.approx(9600e-12)
    assert 8 * 128 * technology.dac.energy / 100e-9 == pytest.approx(4e-3, rel=0.01)


@pytest.fixture(scope="module")
def neurosim() -> dict[tuple[int, int], dict[str, float]]:
    lines = [line for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    return {(int(row["sub_array"]), int(row["adc_levels"])): row for row in rows}


@pytest.fixture(scope="module")
def ours(lut: Lut) -> dict[tuple[int, int], Estimate]:
    """The same network, devices and encodings."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(64, 128, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(128, 256, 3, padding=1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4096, 256),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    x = torch.rand(1, 64, 16, 16, generator=generator)
    out = {}
    for size, levels in ((32, 32), (64, 32), (128, 32), (128, 16), (128, 64), (128, 128)):
        config = Config(
            rows=size, columns=size, v_read=V, nonlinear=False, scheme="offset", slices=2, slice_bits=2,
            dac=DAC(bits=9, encoding="bit-serial"), adc=ADC(bits=levels.bit_length() - 1),
        )  # fmt: skip
        out[size, levels] = estimate(convert(net, lut, config), x)
    return out


def test_converters_dominate_as_in_neurosim(
    ours: dict[tuple[int, int], Estimate], neurosim: dict[tuple[int, int], dict[str, float]]
) -> None:
    for key, found in ours.items():
        share = neurosim[key]["adc_energy"] / neurosim[key]["energy"]
        assert share > 0.8  # what NeuroSim says
        periphery = sum(found.energy.values()) - found.energy["array"]
        assert found.energy["adc"] / periphery > 0.5, key
        assert max(found.area, key=lambda name: found.area[name]) == "adc", key
        assert found.area["array"] < found.area["adc"]
        assert neurosim[key]["array_area"] < neurosim[key]["adc_area"]


def test_larger_tiles_amortise_converters_as_in_neurosim(
    ours: dict[tuple[int, int], Estimate], neurosim: dict[tuple[int, int], dict[str, float]]
) -> None:
    for smaller, larger in ((32, 64), (64, 128)):
        a, b = (neurosim[size, 32] for size in (smaller, larger))
        mine, other = (ours[size, 32] for size in (smaller, larger))
        assert b["adc_energy"] < a["adc_energy"]
        assert other.energy["adc"] < mine.energy["adc"]
        assert b["adc_area"] < a["adc_area"]
        assert other.area["adc"] < mine.area["adc"]
        # areas fall in proportion to the number of sub-arrays: to within a third of each other
        assert other.area["adc"] / mine.area["adc"] == pytest.approx(b["adc_area"] / a["adc_area"], rel=0.34)


def test_each_further_bit_costs_as_in_neurosim(
    ours: dict[tuple[int, int], Estimate], neurosim: dict[tuple[int, int], dict[str, float]]
) -> None:
    for levels in (16, 32, 64):
        theirs = neurosim[128, 2 * levels]["adc_energy"] / neurosim[128, levels]["adc_energy"]
        mine = ours[128, 2 * levels].energy["adc"] / ours[128, levels].energy["adc"]
        assert 1.0 < theirs < 1.3
        assert mine == pytest.approx(theirs, abs=0.1)


def test_every_output_says_that_it_is_an_estimate(lut: Lut) -> None:
    found = estimate(convert(nn.Linear(4, 3), lut, Config(rows=4, columns=4, nonlinear=False)), torch.rand(1, 4))
    assert str(found).startswith(NOTE)
    assert "ESTIMATE" in NOTE
    assert all("estimate of" in row for row in found.rows())
    assert set(found.energy) == set(found.area) == set(COMPONENTS)
    with pytest.raises(ParameterError, match="nothing in this network"):
        estimate(nn.Linear(4, 3), torch.rand(1, 4))


def test_a_technology_of_ones_own_is_checked(tmp_path: Path) -> None:
    text = DEFAULT.read_text()
    assert all(part in text for part in ("doi:10.1109/ISCA.2016.12", "NeuroSim"))
    for old, new, words in (
        ("read_time", "read_tme", "did you mean read_time"),
        ("rate = 1.2e9", "", "lacks rate"),
        ("bits = [4, 5,", "bits = [5, 4,", "bits must increase"),
        ("bits = [4, ", "bits = [", "as many values"),
        ("columns = 8", "columns = 8.5", "a whole number"),
    ):
        (tmp_path / "t.toml").write_text(text.replace(old, new, 1))
        with pytest.raises(ParameterError, match=words):
            Technology.load(tmp_path / "t.toml")
