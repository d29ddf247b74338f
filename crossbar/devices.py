"""What devices make of the conductances asked of them: levels, spread, faults, ageing, noise.

The laws are those of `devicelab.variability` and `devicelab.noise`. Draws come from numpy generators seeded by the
configuration, the layer and the purpose, whatever the machine: same seed, same devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from devicelab import Lut
from devicelab.errors import LutError, ParameterError
from devicelab.noise import BOLTZMANN, CHARGE, apply_stuck, drift, levels, stuck
from devicelab.variability import normal, resistance_pairs

from .config import Config, Spread
from .lines import sent

ROOM = 300.0
"""Temperature at which a table's conductances hold [K]."""

DEVICES, STUCK, AGEING, WRITES, SENSE, READS = range(6)
"""Purposes of draws."""


def generator(config: Config, stream: int, *purpose: int) -> np.random.Generator:
    """The generator of one purpose in one layer."""
    return np.random.default_rng([config.seed, stream, *purpose])


def conductance_range(lut: Lut | None, config: Config) -> tuple[float, float]:
    """Smallest and largest conductance that weights use [S].

    Raises:
        LutError: If the device cannot have them.
        ParameterError: If there is neither a table nor a range.
    """
    if lut is None:
        if config.g_low is None or config.g_high is None:
            raise ParameterError("without a lookup table the range of conductances is needed", hint="g_low and g_high")
        if config.nonlinear:
            raise ParameterError("non-linear cells need a lookup table", hint="Config(nonlinear=False)")
        return config.g_low, config.g_high
    least, most = lut.conductance_range(config.v_read)
    low, high = (own if asked is None else asked for asked, own in ((config.g_low, least), (config.g_high, most)))
    if not least * (1 - 1e-9) <= low < high <= most * (1 + 1e-9):
        raise LutError(
            "conductances are outside what the device can do",
            got=f"{low:.4g} to {high:.4g} S",
            allowed=f"{least:.4g} to {most:.4g} S at {config.v_read:g} V",
        )
    return max(low, least), min(high, most)


class Population(torch.nn.Module):
    """The devices of a matrix, each with its own deviations.

    Args:
        shape: Shape of the conductances.
        lut: The device; None for ohmic cells of a given range.
        config: The arrays.
        stream: Number of the layer among all, for its draws.
        like: Type and place of the conductances.
    """

    own_low: Tensor | None
    own_high: Tensor | None
    deviation: Tensor | None
    kind: Tensor | None
    exponent: Tensor | None

    def __init__(self, shape: torch.Size, lut: Lut | None, config: Config, stream: int, like: Tensor) -> None:
        super().__init__()
        self.config, self.stream, self.lut = config, stream, lut
        self.low, self.high = conductance_range(lut, config)
        self.written = 0
        d, size = config.devices, tuple(shape)

        def keep(name: str, values: Any) -> None:
            tensor = None if values is None else torch.from_numpy(np.asarray(values)).to(like.device)
            if tensor is not None and tensor.is_floating_point():
                tensor = tensor.to(like.dtype)
            self.register_buffer(name, tensor, persistent=False)

        rng = generator(config, stream, DEVICES)
        r_on, r_off = (
            resistance_pairs(
                1 / self.high, 1 / self.low, cv_on=d.r_on_spread, cv_off=d.r_off_spread, size=size, rng=rng
            )
            if d.r_on_spread or d.r_off_spread
            else (None, None)
        )
        keep("own_high", None if r_on is None else 1 / r_on)
        keep("own_low", None if r_off is None else 1 / r_off)
        keep("deviation", normal(size, generator(config, stream, DEVICES, 1)) if d.d2d else None)
        faults = {"on": d.stuck_on, "off": d.stuck_off, "pristine": d.pristine}
        keep(
            "kind",
            stuck(size, generator(config, stream, STUCK), **faults).astype(np.int8) if any(faults.values()) else None,
        )
        nu = d.drift + d.drift_spread * normal(size, generator(config, stream, AGEING)) if d.drift_spread else None
        keep("exponent", nu)

    @property
    def exact(self) -> bool:
        """Whether devices take any conductance asked of them, and keep it."""
        return self.config.but(devices__read_noise=0.0, devices__bandwidth=0.0).devices == type(self.config.devices)()

    def write(self, share: Tensor, *, again: bool = True) -> Tensor:
        """Conductances [S] after a write and the time since.

        Differentiable; levels pass gradients straight through.

        Args:
            share: What was asked for, 0 (lowest) to 1 (highest conductance).
            again: Whether this is a new write, with its own cycle-to-cycle draw.
        """
        g = self.low + (self.high - self.low) * share
        if self.exact:
            return g
        d = self.config.devices
        g = through(self.level(g.detach()), g)
        if self.own_low is not None and self.own_high is not None:
            g = self.own_low + (self.own_high - self.own_low) * (g - self.low) / (self.high - self.low)
        if self.deviation is not None:
            g = g * _lognormal(self._spread(d.d2d, "d2d", g), self.deviation)
        if d.c2c:
            self.written += again
            z = normal(tuple(g.shape), generator(self.config, self.stream, WRITES, self.written))
            g = g * _lognormal(self._spread(d.c2c, "c2c", g), sent(torch.from_numpy(z), g.device).to(g.dtype))
        g = self._aged(g)
        if self.kind is not None:
            low: Any = self.low if self.own_low is None else self.own_low
            high: Any = self.high if self.own_high is None else self.own_high
            g = apply_stuck(g, self.kind, high, low)
        return self._warmed(g)

    def level(self, g: Tensor) -> Tensor:
        """The nearest conductances that can be written [S]."""
        d = self.config.devices
        if d.levels is None:
            return g
        if d.levels == "lut":
            count: Any = self._levels().conductance
        else:
            count = d.levels
        out: Tensor = levels(g, count, self.low, self.high, d.even_in)
        return out

    def read_spread(self, g: Tensor) -> Tensor:
        """Standard deviation of one read of each device, relative."""
        return self._spread(self.config.devices.read_noise, "read_noise", g)

    def _levels(self) -> Any:
        if self.lut is None or self.lut.levels is None:
            raise LutError("the lookup table has no levels", hint='give numbers instead of "lut"')
        return self.lut.levels

    def _spread(self, value: Spread, name: str, g: Tensor) -> Tensor:
        if value != "lut":
            return torch.full((), float(value), dtype=g.dtype, device=g.device)
        found = self._levels()
        if getattr(found, name) is None:
            raise LutError(f"the lookup table's levels have no {name}", hint='give a number instead of "lut"')
        return interpolate(g.detach(), found.conductance, getattr(found, name))

    def _aged(self, g: Tensor) -> Tensor:
        d = self.config.devices
        if d.time and (d.drift or self.exponent is not None):
            g = drift(g, d.time, t0=d.drift_start, nu=d.drift if self.exponent is None else self.exponent)
        if d.time and (d.retention_on or d.retention_off):
            r = 1 / g.detach().cpu().numpy().astype(np.float64)
            upper = 1 / r > 0.5 * (self.low + self.high)
            worn = r
            for wear, which in ((d.retention_on, upper), (d.retention_off, ~upper)):
                if wear is not None:
                    worn = np.where(which, wear.resistance(r, d.time, temperature=d.temperature), worn)
            g = g * torch.from_numpy(r / worn).to(g)
        return g

    def _warmed(self, g: Tensor) -> Tensor:
        d = self.config.devices
        if d.temperature == ROOM or not (d.e_on or d.e_off):
            return g
        up = ((g.detach().log() - np.log(self.low)) / np.log(self.high / self.low)).clamp(0, 1)
        energy = CHARGE * (d.e_off + (d.e_on - d.e_off) * up)
        return g * torch.exp(-energy / BOLTZMANN * (1 / d.temperature - 1 / ROOM))


def through(value: Tensor, of: Tensor) -> Tensor:
    """`value`, with the gradient of `of`: a straight-through estimator (Bengio 2013, arXiv:1308.3432)."""
    return value if not of.requires_grad else of + (value - of).detach()


def interpolate(x: Tensor, grid: Any, values: Any) -> Tensor:
    """Linear interpolation on an increasing grid, constant beyond its ends; differentiable in `x`."""
    nodes, heights = (sent(torch.as_tensor(a, dtype=x.dtype), x.device) for a in (grid, values))
    if len(nodes) == 1:
        return torch.zeros_like(x) + heights[0]
    inside = x.clamp(nodes[0], nodes[-1])
    k = (torch.searchsorted(nodes, inside.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
    t = (inside - nodes[k]) / (nodes[k + 1] - nodes[k])
    return heights[k] + t * (heights[k + 1] - heights[k])


def _lognormal(cv: Tensor, z: Tensor) -> Tensor:
    """Factors of mean 1 and coefficient of variation `cv` from standard normal numbers."""
    sigma2 = torch.log1p(cv * cv)
    return torch.exp(sigma2.sqrt() * z - 0.5 * sigma2)
