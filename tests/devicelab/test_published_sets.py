"""Numbers of published sets as their sources print them, in their units: a slip of 1e3 shows nowhere else."""

from __future__ import annotations

import math

import pytest

from devicelab import parameter_set

NM = 1e-9
PRINTED = {
    "stanford_default": {
        "i0": 1e-3, "g0": 0.25 * NM, "v0": 0.25, "vel0": 10, "beta": 0.8, "gamma0": 16, "ea": 0.6, "a0": 0.25 * NM,
        "t_ini": 298, "f_min": 1.4e9, "g_min": 0.2 * NM, "g_max": 1.7 * NM, "r_th": 2.1e3, "t_ox": 12 * NM, "alpha": 3,
    },
    "pku_default": {
        "a": 0.25 * NM, "f": 1e13, "ea": 0.7, "eh": 1.12, "ei": 0.82, "r": 1.5, "alpha": 0.75 * NM,
        "alpha_h": 0.75 * NM, "x_t": 0.4 * NM, "v_t": 0.4, "l0": 3 * NM, "w": 0.5 * NM, "w_cf": 5 * NM, "j0": 1e13,
        "rho": 19.635e-6, "r_th": 5e5, "t_ini": 300,
    },
    "simmons_pickett": {
        "f_off": 3.5e3, "i_off": 115e-6, "a_off": 1.2, "f_on": 40e3, "i_on": 8.9e-6, "a_on": 1.8, "b": 500e-6,
        "w_c": 0.107,
    },
    "jart_vcm_v1b": {
        "richardson": 6.01e5, "t_ini": 293, "eps": 17, "eps_phi": 5.5, "phi0": 0.18, "phi_n": 0.1, "mobility": 4e-6,
        "n_max": 20e26, "n_min": 0.008e26, "n_plug": 20e26, "a": 0.25 * NM, "nu": 2e13, "dw": 1.35, "r_th": 15.72e6,
        "r": 45 * NM, "l_cell": 3 * NM, "l_disc": 0.4 * NM, "reset_scale": 0.27, "r_tiox": 650, "r_line": 719.2437,
        "r_th_line": 90471.47, "alpha_line": 3.92e-3,
    },
    "team_fit_to_simmons": {
        "k_off": 1.46e-9 / 0.6, "k_on": 4.68e-13 / 0.6, "a_on": 10, "a_off": 10, "i_off": 115e-6, "i_on": -8.9e-6,
        "r_on": 50, "r_off": 1e3,
    },
    "vteam_memtorch": {
        "r_on": 50, "r_off": 1e3, "v_off": 0.02, "v_on": -0.2, "k_off": 5e-4 / (3 * NM), "k_on": 10 / (3 * NM),
        "a_off": 1, "a_on": 3,
    },
    "vteam_pt_hf_ti": {
        "r_on": 100, "r_off": 2.5e3, "v_off": 0.5, "v_on": -0.53, "k_off": 4.03e-8 / (10 * NM), "k_on": 80 / (10 * NM),
        "a_off": 1, "a_on": 3,
    },
    "yakopcic_oblea": {
        "a1": 0.17, "a2": 0.17, "b": 0.05, "v_p": 0.16, "v_n": 0.15, "a_p": 4e3, "a_n": 4e3, "x_p": 0.3, "x_n": 0.5,
        "alpha_p": 1, "alpha_n": 5,
    },
    "mms_knowm": {"r_on": 500, "r_off": 1.5e3, "v_on": 0.27, "v_off": 0.27, "k": 1 / 1e-4, "temperature": 298.5},
    "mms_pdwo3w": {
        "r_on": 1 / 2.5e-5, "r_off": 1 / 0.4e-5, "v_on": 0.8, "v_off": 1, "k": 1 / 0.8e-3, "temperature": 298,
        "phi": 0.55, "af": 1e-9, "bf": 8.5, "ar": 22e-9, "br": 6.2,
    },
    "data_driven_tiox_dut1": {
        "areset": 0.12, "aset": 79.03, "t_p": 0.59, "t_n": 1.12, "k_p": 8.10e-3, "k_n": 9.43e-3, "rp0": 3085,
        "rp1": 1862, "rn0": 5193, "rn1": 378, "a_p": 0.24, "a_n": 0.24, "b_p": 2.81, "b_n": 2.81,
    },
    "strukov_2008_team": {"r_on": 100, "r_off": 16e3, "k": 1e-14 * 100 / (10 * NM) ** 2},
}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_a_published_set_has_the_numbers_of_its_source(name: str) -> None:
    found = parameter_set(name).values()
    assert {key: found[key] for key in PRINTED[name]} == pytest.approx(PRINTED[name], rel=1e-9, abs=0.0)


def test_stanford_moves_with_the_temperature_of_its_own_current() -> None:
    """RRAM v1.0.0 by hand at -1 V and 0.35 nm, where the tip is hot; Joule heat makes it many times as fast."""
    kt_per_kelvin = 1.380649e-23 / 1.602176634e-19
    i = 1e-3 * math.exp(-0.35 / 0.25) * math.sinh(1.0 / 0.25)
    temperature = 298 + 2.1e3 * i
    gamma = 16 - 0.8 * 0.35**3
    kt = kt_per_kelvin * temperature
    speed = 10 * math.exp(-0.6 / kt) * math.sinh(gamma * 0.25 / 12 * 1.0 / kt)
    x = (1.7 - 0.35) / 1.5
    assert temperature > 310
    assert float(parameter_set("stanford_default").replace(f_min=1e3).rate(-1.0, x)) == pytest.approx(
        -speed / (1.5 * NM), rel=1e-6
    )
