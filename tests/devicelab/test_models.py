"""Closed forms and published facts of each model; sources in the models' docstrings and docs/models.md."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import constants as nature
from scipy.optimize import brentq

from devicelab import TEAM, Drive, LinearIonDrift, Model, NonlinearIonDrift, NoWindow, parameter_set, simulate, sine
from devicelab.errors import ParameterError
from devicelab.models import simmons
from devicelab.parameter_sets import parameter_set_info

STEPS = 1e-6  # steps of 1e-7 each
EXACT = 1e-9


def hold(model: Model, v: float, duration: float, x0: float, **options: object) -> float:
    """State after a constant voltage."""
    return float(simulate(model, Drive([0.0, duration], [v, v]), x0=x0, **options).x[-1])


def test_nonlinear_drift_moves_with_a_power_of_the_voltage() -> None:
    """x = x0 + a V^m t."""
    model = parameter_set("nonlinear_drift_team_paper")
    assert isinstance(model, NonlinearIonDrift)
    assert hold(model, 0.8, 1.0, 0.2) == pytest.approx(0.2 + 0.8**5, rel=EXACT)
    assert hold(model, -0.8, 1.0, 0.9) == pytest.approx(0.9 - 0.8**5, rel=EXACT)


def test_nonlinear_drift_current_at_one_volt_by_hand() -> None:
    """x^2 beta sinh(2) + chi (e^4 - 1), beta = 0.9 uA, chi = 1e-10 A."""
    expected = 0.25 * 0.9e-6 * 3.626860407847019 + 1e-10 * 53.598150033144236
    assert parameter_set("nonlinear_drift_team_paper").current(1.0, 0.5) == pytest.approx(expected, rel=EXACT)


def test_team_fit_moves_like_simmons_at_one_milliampere() -> None:
    """1.07 nm/s by hand: 1.46e-9 (1 mA / 115 uA - 1)^10 nm/s, close to the 0.91 nm/s of the Simmons model."""
    model = parameter_set("team_fit_to_simmons")
    speed = 1.46e-9 * (1e-3 / 115e-6 - 1) ** 10
    assert speed == pytest.approx(1.07, abs=0.01)
    v = 1e-3 / float(model.current(1.0, 0.5))
    assert float(model.rate(v, 0.5)) == pytest.approx(-speed / 0.6, rel=EXACT)  # over the 0.6 nm between its bounds


def test_team_without_threshold_is_linear_ion_drift() -> None:
    """alpha = 1, i_th -> 0, k / i_th = mu r_on / D (TEAM, eq. 20 to 25); v < 0 SETs there."""
    drift = LinearIonDrift(r_on=100.0, r_off=16e3, k=1e4)
    tiny = 1e-12
    team = TEAM(r_on=100.0, r_off=16e3, i_on=-tiny, i_off=tiny, k_on=1e4 * tiny, k_off=1e4 * tiny, a_on=1.0, a_off=1.0)
    drive = sine(0.8, 1.0, points=400)
    one, two = simulate(drift, drive, x0=0.2), simulate(team, Drive(drive.t, -drive.v), x0=0.2)
    np.testing.assert_allclose(two.x, one.x, atol=3 * STEPS)


def test_yakopcic_moves_linearly_in_time_below_x_p() -> None:
    model = parameter_set("yakopcic_oblea")
    duration = 1e-4
    expected = 0.11 + 4000 * (np.exp(0.3) - np.exp(0.16)) * duration
    assert expected < model.x_p
    assert hold(model, 0.3, duration, 0.11) == pytest.approx(expected, rel=1e-7)


def test_yakopcic_carries_nothing_at_x_0_and_its_revision_does() -> None:
    assert parameter_set("yakopcic_oblea").current(0.5, 0.0) == 0.0
    assert parameter_set("yakopcic_two_branch_example").current(0.5, 0.0) > 0.0


def test_stanford_reads_as_published() -> None:
    """542 ohm and 218586 ohm at 0.1 V and gaps of 0.2 and 1.7 nm."""
    model = parameter_set("stanford_default")
    assert 0.1 / model.current(0.1, 1.0) == pytest.approx(542, abs=0.5)
    assert 0.1 / model.current(0.1, 0.0) == pytest.approx(218586, rel=1e-5)


def test_stanford_sets_at_the_field_it_needs() -> None:
    """|v| = f_min t_ox / gamma(1.7 nm) = 1.392 V, gamma = 16 - 0.8 1.7^3."""
    model = parameter_set("stanford_default").replace(smooth=1e-6)
    threshold = 1.4e9 * 12e-9 / (16 - 0.8 * 1.7**3)
    assert threshold == pytest.approx(1.392, abs=5e-4)
    assert model.rate(0.999 * threshold, 0.0) == 0.0
    assert model.rate(1.001 * threshold, 0.0) > 0.0


@pytest.mark.parametrize("v", [1.061, 1.10, 1.202, 1.301])
def test_stanford_slides_along_its_field_limit_in_a_slow_reset(v: float) -> None:
    """g(v) = [(gamma0 - f_min t_ox / |v|) / beta]^(1/3) nm, a sweep of seconds from the low resistance."""
    gap = ((16 - 1.4e9 * 12e-9 / v) / 0.8) ** (1 / 3)
    model = parameter_set("stanford_default").replace(smooth=1e-6)
    x = simulate(model, Drive([0.0, 1.0, 2.0], [0.0, -v, -v]), x0=1.0).x[-1]
    assert 1.7 - 1.5 * x == pytest.approx(gap, abs=1.5e-3)  # nm; 1 s of creep in the tail of the edge


@pytest.mark.parametrize("name", ["pku_default", "pku_full_width"])
@pytest.mark.parametrize("v", [-2.0, -0.1, 1e-6, 0.4, 2.0])
@pytest.mark.parametrize("x", [0.0, 0.3, 0.9, 1.0])
def test_pku_divides_its_voltage_between_gap_and_filament(name: str, v: float, x: float) -> None:
    """v_g + (i - i_1) rho (l0 - g) / (pi w^2 / 4) = v, found by bisection in amperes and ohms."""
    model = parameter_set(name)
    gap, area = 3e-9 - (3e-9 - model.g_min) * x, np.pi * model.w**2 / 4
    filament = 1.9635e-5 * (3e-9 - gap) / area

    def through(over_gap: float) -> float:
        return float(1e13 * area * np.exp(-gap / 0.4e-9) * np.sinh(over_gap / 0.4))

    over_gap = brentq(lambda u: u + filament * through(u) - v, -abs(v), abs(v), xtol=1e-16)
    beside = 1e13 * (np.pi * 25e-18 / 4 - area) * np.exp(-3 / 0.4) * np.sinh(v / 0.4)
    assert float(model.current(v, x)) == pytest.approx(through(over_gap) + beside, rel=1e-9)


@pytest.mark.parametrize("v", [-2.0, -1.2, -0.6, 0.5, 0.9, 1.3])
@pytest.mark.parametrize("x", [0.1, 0.5, 0.85])
def test_pku_moves_at_the_speed_of_its_vacancies_and_ions(v: float, x: float) -> None:
    """RRAM v2.0 beta in joules: SET by vacancies, RESET by the slower of injection and hopping, both heated."""
    model = parameter_set("pku_full_width")
    gap = 3e-9 - (3e-9 - model.g_min) * x
    area = np.pi * 25e-18 / 4
    filament = 1.9635e-5 * (3e-9 - gap) / area
    most = 1e13 * area * np.exp(-gap / 0.4e-9)
    over_gap = brentq(lambda u: u + filament * most * np.sinh(u / 0.4) - v, -abs(v), abs(v), xtol=1e-16)
    kt = nature.k * (300 + 5e5 * v * most * np.sinh(over_gap / 0.4))
    q, attempt = nature.e, 0.25e-9 * 1e13
    if v > 0:
        speed = attempt * np.exp(-q * (0.7 - 0.75e-9 * over_gap / gap) / kt)
    else:
        injected = attempt * np.exp(-q * (0.82 + 1.5 * over_gap) / kt)
        hopped = attempt * np.exp(-q * 1.12 / kt) * np.sinh(-q * 0.75e-9 * over_gap / (gap * kt))
        speed = -min(injected, hopped)
    expected = np.clip(speed, -100.0, 100.0) / (3e-9 - model.g_min)
    assert float(model.rate(v, x)) == pytest.approx(expected, rel=1e-5)  # constants of nature in the exponent


@pytest.mark.parametrize("name", ["pku_full_width", "jart_vcm_v1b", "stanford_default", "mms_knowm"])
def test_a_hotter_device_moves_faster(name: str) -> None:
    """Activated motion: 30 K more of ambient, and of self-heating where there is any, at either sign of the voltage."""
    model = parameter_set(name)
    ambient = "temperature" if name == "mms_knowm" else "t_ini"
    v = (1.0 if name == "stanford_default" else 0.5) * parameter_set_info(name)["drive"]["amplitude"]  # over f_min
    hotter = model.replace(**{ambient: getattr(model, ambient) + 30.0})
    for volts in (v, -v):
        slow, fast = abs(float(model.rate(volts, 0.5))), abs(float(hotter.rate(volts, 0.5)))
        assert 0 < slow < fast
        if name != "mms_knowm":
            cold = abs(float(model.replace(r_th=0.0).rate(volts, 0.5)))
            assert cold < slow


def test_pku_filament_takes_most_of_the_voltage_when_the_gap_is_small() -> None:
    """3 kohm at full width and 300 kohm at the first SET, in series with a gap of 2 and 200 kohm."""
    for name, ohms in (("pku_full_width", 3e3), ("pku_default", 300e3)):
        model = parameter_set(name)
        assert 1.9635e-5 * 3e-9 / (np.pi * model.w**2 / 4) == pytest.approx(ohms, rel=1e-4)
        assert 0.01 / model.current(0.01, 1.0) > ohms


JART = {
    0.03: [-5.839e-05, -4.487e-05, -3.286e-05, -1.544e-05, 1.009e-05, 2.057e-05, 3.719e-05, 5.349e-05, 8.132e-05],
    0.1: [-0.00013, -0.000108, -8.588e-05, -4.684e-05, 2.892e-05, 5.865e-05, 0.0001053, 0.0001506, 0.0002272],
    0.3: [-0.0002406, -0.0002122, -0.000175, -9.795e-05, 6.098e-05, 0.0001226, 0.0002175, 0.0003081, 0.0004587],
    1.0: [-0.000441, -0.0003851, -0.0003029, -0.0001588, 9.795e-05, 0.000195, 0.0003412, 0.0004779, 0.0007016],
    2.0: [-0.0005954, -0.0004838, -0.0003628, -0.000184, 0.0001119, 0.0002219, 0.0003865, 0.0005391, 0.0007874],
    5.0: [-0.0007759, -0.0005658, -0.0004091, -0.0002038, 0.000122, 0.0002413, 0.0004186, 0.0005823, 0.0008473],
    20.0: [-0.0008641, -0.000604, -0.000433, -0.0002158, 0.0001275, 0.0002517, 0.0004358, 0.0006052, 0.000879],
}
"""Current [A] by vacancy concentration [1e26 / m^3] at `JART_VOLTAGES`, by the closed form that Z. Yu
(Forschungszentrum Juelich, 2022) fitted to JART VCM v1b for the JARTv1b device of his aihwkit fork; figures only."""

JART_VOLTAGES = [-1.5, -1.0, -0.7, -0.342, 0.2, 0.4, 0.7065, 1.0, 1.5]


@pytest.mark.parametrize("n", list(JART))
def test_jart_carries_the_currents_of_an_independent_source(n: float) -> None:
    """Within 7 %, which is the accuracy of that closed form; 3 % at most of these."""
    model = parameter_set("jart_vcm_v1b")
    x = np.log(n / 0.008) / np.log(20 / 0.008)
    off = np.abs(model.current(np.array(JART_VOLTAGES), x) / JART[n] - 1)
    assert off.max() < 0.07
    assert np.median(off) < 0.05


def schottky(v: float, n: float) -> tuple[float, float, float, float]:
    """JART VCM v1b in joules, by bisection: current, voltages of contact + disc + plug and of the disc, temperature."""
    q, k, m, eps0 = nature.e, nature.k, nature.m_e, nature.epsilon_0
    area = np.pi * 45e-9**2
    disc, plug = 0.4e-9 / (2 * q * n * 4e-6 * area), 2.6e-9 / (2 * q * 20e26 * 4e-6 * area)

    def divided(i: float) -> tuple[float, float, float]:
        contact = v - i * (disc + plug + 650 + 719.2437 * (1 + 719.2437 * 3.92e-3 * 90471.47 * i * i))
        heated = contact + i * (disc + plug)
        return contact, heated, 293 + 15.72e6 * (0.27 if v > 0 else 1.0) * i * heated

    def excess(i: float) -> float:
        contact, _, kelvin = divided(i)
        kt = k * kelvin
        depth = max(0.18 - 0.1 - contact, 0.0)
        phi = max(0.18 - (q**3 * 2 * n * depth / (8 * np.pi**2 * (5.5 * eps0) ** 3)) ** 0.25, 0.0)
        if v > 0:
            return float(area * 6.01e5 * kelvin**2 * np.exp(-q * phi / kt) * np.expm1(q * contact / kt) - i)
        w00 = q * nature.h / (4 * np.pi) * np.sqrt(2 * n / (m * 17 * eps0))
        w0, slope = w00 / np.tanh(w00 / kt), w00 / (w00 / kt - np.tanh(w00 / kt))
        field = np.sqrt(np.pi * w00 * q * (abs(contact) + phi / np.cosh(w00 / kt) ** 2))
        return float(
            -area * 6.01e5 * kelvin / k * field * np.exp(-q * phi / w0) * np.expm1(q * abs(contact) / slope) - i
        )

    most = brentq(lambda i: divided(i)[0], 0.0, v / 1000)  # nothing left for the contact
    near = brentq(lambda i: divided(i)[0] - np.copysign(0.05, v), 0.0, most) if v > 0.05 else 0.0
    i = brentq(excess, near, most, xtol=1e-18, rtol=1e-14)
    _, heated, kelvin = divided(i)
    return i, heated, i * disc, kelvin


@pytest.mark.parametrize("v", [-1.3, -0.4, -0.01, 0.01, 0.3, 0.8, 1.3])
@pytest.mark.parametrize("n", [0.008e26, 0.1e26, 2e26, 19e26])
def test_jart_solves_its_equations(v: float, n: float) -> None:
    """Current and rate against another way to write and to solve them."""
    model = parameter_set("jart_vcm_v1b")
    span = np.log(20 / 0.008)
    x = np.log(n / 0.008e26) / span
    i, heated, disc, kelvin = schottky(v, n)
    assert float(model.current(v, x)) == pytest.approx(i, rel=1e-9)
    field = heated / 3e-9 if v > 0 else abs(disc) / 0.4e-9
    tilt = 2 * 0.25e-9 * field / (np.pi * 1.35)
    low, high = (
        1.35
        * (np.sqrt(1 - tilt**2) + side * tilt * np.pi / 2 + tilt * np.arcsin(tilt))
        / (nature.k / nature.e * kelvin)
        for side in (-1, 1)
    )
    edge = 1 - (0.008e26 / n) ** 10 if v > 0 else 1 - (n / 20e26) ** 10
    speed = (n + 20e26) / 2 * 0.25e-9 * 2e13 / 0.4e-9 * (np.exp(-low) - np.exp(-high)) * edge / (n * span)
    assert float(model.rate(v, x)) == pytest.approx(-np.sign(v) * speed, rel=1e-7, abs=1e-12)


def test_jart_sets_faster_by_decades_a_tenth_of_a_volt() -> None:
    """The voltage-time dilemma: from 1 s to 1 us of SET within half a volt."""
    model = parameter_set("jart_vcm_v1b")

    def time_to_set(v: float) -> float:
        for t in 10.0 ** np.arange(-12, 3, 0.25):
            if hold(model, v, float(t), 0.1) > 0.5:
                return float(t)
        return np.inf

    assert time_to_set(-0.6) / time_to_set(-1.1) > 1e6


def relaxed(r0: float, bound: float, k: float, s: float, t: float, sign: float) -> float:
    """R(t) = r + (1/k) log1p(expm1(k (R0 - r)) e^(-k s t)) at v > 0, its mirror image at v < 0."""
    return bound + sign / k * np.log1p(np.expm1(sign * k * (r0 - bound)) * np.exp(-k * s * t))


@pytest.mark.parametrize("name", ["data_driven_tiox_dut1", "data_driven_tiox_dut2"])
def test_data_driven_model_relaxes_as_its_closed_form(name: str) -> None:
    model, v = parameter_set(name), 0.7
    r0 = model.r_high - 0.8 * (model.r_high - model.r_low)
    bound = model.rp0 + model.rp1 * v + model.rp2 * v * v
    moving = model if bound > r0 else model.replace(rp0=r0 + 3.0 / model.k_p - model.rp1 * v)
    bound = float(moving.rp0 + moving.rp1 * v)
    s = moving.areset * np.expm1(moving.t_p * v)
    t = 0.3 / (s * np.expm1(moving.k_p * (bound - r0)) / (moving.r_high - moving.r_low))
    expected = (moving.r_high - relaxed(r0, bound, moving.k_p, s, t, 1.0)) / (moving.r_high - moving.r_low)
    assert 0 < expected < 0.8
    assert hold(moving, v, t, 0.8) == pytest.approx(expected, abs=STEPS)


def test_data_driven_bound_of_dut2_is_that_of_the_device() -> None:
    """10.35 kohm at -0.8 V, with r_n1 = 23.69e3 (the paper prints 23.69e4)."""
    model = parameter_set("data_driven_tiox_dut2")
    assert model.rn0 + model.rn1 * -0.8 == pytest.approx(10.35e3, abs=5.0)


def test_data_driven_2021_relaxes_as_its_closed_form() -> None:
    """R(t) = r - (r - R0) / (1 + s (r - R0) t)."""
    model = parameter_set("data_driven_2021").replace(polarity=1)
    v, x0 = 1.3, 0.7
    r0 = model.r_high - x0 * (model.r_high - model.r_low)
    bound, s = model.rp0 + model.rp1 * v, model.areset * -np.expm1(-v / model.t_p)
    t = 1e-5
    expected = bound - (bound - r0) / (1 + s * (bound - r0) * t)
    assert hold(model, v, t, x0) == pytest.approx((model.r_high - expected) / (model.r_high - model.r_low), abs=STEPS)


@pytest.mark.parametrize("v", [-0.3, 0.0, 0.26, 0.4])
def test_metastable_switches_relax_exponentially(v: float) -> None:
    """x = x_inf + (x0 - x_inf) e^(-(P_on + P_off) t / tau)."""
    model = parameter_set("mms_knowm")
    vt = 8.617333262e-5 * 298.5
    on, off = 1 / (1 + np.exp(-(v - 0.27) / vt)), 1 - 1 / (1 + np.exp(-(v + 0.27) / vt))
    t = 3e-4
    expected = on / (on + off) + (0.5 - on / (on + off)) * np.exp(-(on + off) * t / 1e-4)
    assert hold(model, v, t, 0.5) == pytest.approx(expected, abs=STEPS)


@pytest.mark.parametrize("v", [-1.15, -0.2, 1e-9, 0.5, 1.1])
def test_metastable_switches_beside_a_diode(v: float) -> None:
    """phi v G of the relaxing switches plus (1 - phi) of a diode that carries nothing at 0 V, at constant voltage."""
    vt = 8.617333262e-5 * 298
    on, off = 1 / (1 + np.exp(-(v - 0.8) / vt)), 1 / (1 + np.exp((v + 1.0) / vt))
    t = 3e-4
    x = on / (on + off) + (0.5 - on / (on + off)) * np.exp(-(on + off) * t / 0.8e-3)
    diode = 1e-9 * np.expm1(8.5 * v) - 22e-9 * np.expm1(-6.2 * v)
    published = 1e-9 * np.exp(8.5 * v) - 22e-9 * np.exp(-6.2 * v)
    trace = simulate(parameter_set("mms_pdwo3w"), Drive([0.0, t], [v, v]), x0=0.5)
    assert float(trace.x[-1]) == pytest.approx(x, abs=STEPS)
    i = 0.55 * v * (0.4e-5 + (2.5e-5 - 0.4e-5) * float(trace.x[-1])) + 0.45 * diode
    assert float(trace.i[-1]) == pytest.approx(i, rel=1e-12)
    assert published - diode == pytest.approx(1e-9 - 22e-9, abs=1e-20)  # all that the source's form differs by
    assert float(parameter_set("mms_pdwo3w").current(0.0, 0.5)) == 0.0


def test_metastable_switches_have_no_diode_unless_asked() -> None:
    plain = parameter_set("mms_knowm")
    v = np.linspace(-0.5, 0.5, 11)
    np.testing.assert_allclose(plain.current(v, 0.3), v * (0.3 / 500 + 0.7 / 1500), rtol=1e-15)
    assert [entry.name for entry in plain.parameters() if not entry.fit] == [
        "temperature",
        "phi",
        "af",
        "bf",
        "ar",
        "br",
    ]


@pytest.mark.parametrize(("w", "kilohm"), [(1.2, 3.2), (1.4, 18.0), (1.6, 118.0), (1.8, 796.0)])
def test_simmons_barrier_resistance_at_a_tenth_of_a_volt(w: float, kilohm: float) -> None:
    """With the 215 ohm of its electrodes; an independent evaluation of the same constants, not a measurement."""
    model = parameter_set("simmons_pickett")
    trace = simulate(model, Drive([0.0, 1e-30], [0.1, 0.1]), x0=min(1.0, (1.8 - w) / 0.6), series_resistance=215.0)
    assert 0.1 / trace.i[0] / 1e3 == pytest.approx(kilohm, rel=0.02)


def test_simmons_constants_follow_from_those_of_nature() -> None:
    """e ln 2 / (8 pi 5 eps0) in V nm; 4 pi sqrt(2 m e) / h in 1 / (nm sqrt(V)); e^2 / (2 pi h) times 1e4 nm^2."""
    from scipy import constants as c

    assert c.e * np.log(2) / (8 * np.pi * 5 * c.epsilon_0) * 1e9 == pytest.approx(simmons.IMAGE, rel=2e-4)
    assert 4 * np.pi * np.sqrt(2 * c.m_e * c.e) / c.h * 1e-9 == pytest.approx(simmons.STEEPNESS, rel=1e-6)
    assert c.e**2 / (2 * np.pi * c.h) * 1e4 == pytest.approx(parameter_set("simmons_pickett").j0, rel=1e-3)


def test_simmons_barrier_moves_as_published_at_one_milliampere() -> None:
    """dw/dt = +0.914 nm/s at 1 mA and 1.5 nm: the state equation, driven by its current."""
    i, w = 1e-3, 1.5
    expected = 3.5e3 * np.sinh(i / 115e-6) * np.exp(-np.exp((w - 1.2) / 0.107 - i / 500e-6) - w / 0.107)
    assert expected == pytest.approx(0.914, abs=5e-4)
    model = parameter_set("simmons_pickett").replace(j0=1.0)  # enough current to reach 1 mA below the barrier height
    v = np.linspace(0, 0.9, 20001)
    at = float(np.interp(i, model.current(v, 0.5), v))
    assert float(model.rate(at, 0.5)) * 0.6 == pytest.approx(-expected, rel=1e-4)  # linear interpolation of v


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("stanford_default", {"g_min": 2e-9}, "g_min must be below g_max"),
        ("team_fit_to_simmons", {"i_on": 1e-6}, r"i_on .* is out of bounds"),
        ("data_driven_tiox_dut1", {"r_low": 7e3}, "r_low must be below r_high"),
        ("mms_knowm", {"r_on": 2e3}, "r_on must be below r_off"),
        ("yakopcic_oblea", {"x_p": 1.5}, r"x_p .* is out of bounds"),
        ("jart_vcm_v1b", {"n_min": 30e26}, "n_min must be below n_max"),
        ("jart_vcm_v1b", {"l_disc": 4e-9}, "l_disc must be below l_cell"),
        ("pku_default", {"w": 6e-9}, "w must be below w_cf"),
        ("simmons_pickett", {"w_on": 2.0}, "w_on must be below w_off"),
    ],
)
def test_impossible_parameters_are_refused(name: str, changes: dict[str, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parameter_set(name).replace(**changes)


def test_windows_slow_models_that_are_not_separable_too() -> None:
    from devicelab import Biolek

    model = parameter_set("stanford_default")
    slow = model.replace(window=Biolek(p=1))
    assert slow.rate(1.5, 0.5) == pytest.approx(0.75 * model.rate(1.5, 0.5), rel=EXACT)
    assert isinstance(model.window, NoWindow)


def test_simmons_barrier_sets_as_its_state_equation_says() -> None:
    """dw/dt = -f_on sinh(i / i_on) exp(-exp((a_on - w) / w_c - i / b) - w / w_c), at 20 uA of either width."""
    model = parameter_set("simmons_pickett").replace(j0=1.0)
    i = 20e-6
    for w in (1.45, 1.7):
        speed = 40e3 * np.sinh(i / 8.9e-6) * np.exp(-np.exp((1.8 - w) / 0.107 - i / 500e-6) - w / 0.107)
        x = (1.8 - w) / 0.6
        at = brentq(lambda v, x=x: float(model.current(v, x)) + i, -0.9, -1e-6, xtol=1e-15)
        assert float(model.rate(at, x)) * 0.6 == pytest.approx(speed, rel=1e-7)


def test_yakopcic_slows_down_towards_its_ends() -> None:
    """By hand, beyond x_p at SET and below 1 - x_n at RESET: w_p = (x_p - x) / (1 - x_p) + 1, w_n = x / (1 - x_n)."""
    model = parameter_set("yakopcic_oblea")  # x_p = 0.3, x_n = 0.5, alpha_p = 1, alpha_n = 5
    up = 4000 * (np.exp(0.3) - np.exp(0.16)) * np.exp(-(0.8 - 0.3)) * ((0.3 - 0.8) / 0.7 + 1)
    down = 4000 * (np.exp(0.3) - np.exp(0.15)) * np.exp(5 * (0.2 + 0.5 - 1)) * 0.2 / 0.5
    assert float(model.rate(0.3, 0.8)) == pytest.approx(up, rel=EXACT)
    assert float(model.rate(-0.3, 0.2)) == pytest.approx(-down, rel=EXACT)


def test_data_driven_models_set_as_their_equations_say() -> None:
    """dR/dt = -A_n (e^(t_n |v|) - 1) (e^(k_n (R - r_n)) - 1); 2021: -A_n (1 - e^(-|v| / t_n)) (R - r_n)^2; v < 0."""
    old, new, v = (
        parameter_set("data_driven_tiox_dut1"),
        parameter_set("data_driven_2021").replace(polarity=1, t_n=0.6),
        -0.9,
    )
    r = old.r_high - 0.1 * (old.r_high - old.r_low)
    above = r - (5193 + 378 * v)
    slope = 79.03 * np.expm1(1.12 * 0.9) * np.expm1(9.43e-3 * above)
    assert above > 0
    assert float(old.rate(v, 0.1)) == pytest.approx(slope / (old.r_high - old.r_low), rel=EXACT)
    r = new.r_high - 0.1 * (new.r_high - new.r_low)
    above = r - (new.rn0 + new.rn1 * v)
    slope = -new.aset * np.expm1(-0.9 / new.t_n) * above**2
    assert above > 0
    assert float(new.rate(v, 0.1)) == pytest.approx(slope / (new.r_high - new.r_low), rel=EXACT)
