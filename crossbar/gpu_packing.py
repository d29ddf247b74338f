"""What the fused product of `gpu_product` reads of a matrix on arrays: codes, halves of them, laws, noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from devicelab.noise import BOLTZMANN, CHARGE

from .converters import steps
from .gpu_oracle import LINEAR, POLYNOMIAL, SIGNS, TABLE, functions

if TYPE_CHECKING:
    from .chip import Written
    from .mapping import TiledMatrix

LARGEST = 16384.0
"""Largest number of a pair of halves, as in `gpu_product_kernel`."""
FILL = 16
"""Columns of halves are filled up to a multiple of this, so that they are copied in pieces of 16 bytes."""
LAWS = {"linear": 1, "log": 2}
"""Of the converter, in the kernel; 0 is none."""


def kind(chip: TiledMatrix) -> int:
    """The cells' law."""
    if not chip.config.nonlinear:
        return LINEAR
    if chip.config.dac.encoding == "pulse-width":
        return SIGNS
    return TABLE if chip._smooth is None else POLYNOMIAL


MOST_WHOLE_BITS = 12
"""Of a DAC whose numbers are exact as halves."""


def digit(chip: TiledMatrix) -> int:
    """Bits of one read of the inputs; 0 where a number is read at once, or reads only add up to it."""
    c = chip.config
    return c.dac.slice_bits if c.dac.encoding == "bit-serial" and (chip._partials_matter or c.nonlinear) else 0


def together(chip: TiledMatrix) -> bool:
    """Whether tiles may be added before anything happens to their sums."""
    c = chip.config
    return c.partial_sums == "analog" or (c.adc.bits is None and c.sense.saturation is None)


def noisy(chip: TiledMatrix) -> int:
    """Noise of reads by voltage squared (1), by voltage (2), or both (3)."""
    d = chip.config.devices
    return (1 if d.read_noise else 0) + (2 if d.bandwidth else 0)


def packed(chip: TiledMatrix, written: Written) -> dict[str, Tensor]:
    """The kernel's arrays, see `gpu_product.tiled_gpu`; weights are differentiable with respect to what was written."""
    lay, c, matrix = chip.layout, chip.config, written.matrix
    if matrix is None:
        raise TypeError("these arrays have no matrix")
    matrix = matrix.to(chip.g.dtype)  # tables answer in float64

    def columns(a: Tensor) -> Tensor:
        """[..., channels, K outputs] as [..., channels, n_out] in the order of the results."""
        a = a[..., : lay.n_out]
        return a if chip.order_out is None else a[..., chip.order_out.argsort()]

    r = 1 if c.partial_sums == "analog" else lay.row_tiles
    shape = lay.matrices, r, lay.channels, matrix.shape[-1]
    one = matrix.new_ones(())
    step = one
    if c.adc.bits is not None:  # a logarithmic converter counts in its range
        codes = steps(c.adc.bits) if c.adc.law == "linear" else 1
        step = (chip.adc_range / codes).clamp_min(torch.finfo(matrix.dtype).tiny)
    step = step.expand(shape)
    gain = step.reciprocal() if chip.gain is None else chip.gain / step
    zero = torch.zeros_like(step) if chip.offset is None else chip.offset / step
    limit = (c.sense.saturation * chip.full_scale if c.sense.saturation is not None else torch.inf) / step
    if together(chip):  # all tiles share one step here
        zero, limit, step = zero.sum(1, keepdim=True), limit[:, :1], step[:, :1]
    weights = (matrix.unflatten(2, (-1, c.rows)) * gain[:, :, None, None]).permute(0, 4, 1, 2, 3, 5)
    coefficients = torch.stack([matrix.new_full((), a) for a in lay.coefficients()])
    found = {
        "weights": columns(weights),  # [M, C, R, F, rows, n_out]
        "step": columns((step * coefficients[:, None]).transpose(1, 2)),
        "zero": columns(zero.transpose(1, 2)),
        "limit": columns(limit.transpose(1, 2)),
        "none": torch.zeros(2, dtype=torch.int64, device=matrix.device),
        "base": matrix.new_zeros(1),
        "unit": (chip.top / ((chip.devices_on_chip.high - chip.devices_on_chip.low) * c.v_read)).view(1),
    }
    found |= _law(chip, found["base"])
    found |= _halves(chip, found["weights"].detach(), found)
    found |= _noise(chip, written.g.detach(), gain, columns, found["base"])
    if c.scheme == "offset":
        zeros = lay.zero(found["base"])
        low, high = chip.devices_on_chip.low, chip.devices_on_chip.high
        middle = chip.devices_on_chip.level(low + (high - low) * zeros)
        found["base"] = ((middle * coefficients).sum() * c.v_read).view(1)
    return {name: a.contiguous() for name, a in found.items()}


def _law(chip: TiledMatrix, like: Tensor) -> dict[str, Tensor]:
    """The cells' functions, tables in units of the largest input or polynomials, and what makes `LARGEST` of each."""
    none = torch.zeros(1, dtype=like.dtype, device=like.device)
    found = {"nodes": none, "bins": none.to(torch.int32), "coefficients": none, "digits": none.to(torch.int32)}
    law, c = kind(chip), chip.config
    if law in (LINEAR, SIGNS):
        return found | {"sizes": none}
    if law == POLYNOMIAL and chip._smooth is not None:
        found["coefficients"] = chip._smooth.to(like)
        most = found["coefficients"].abs().sum(-1)
    else:
        table = chip._basis(like.device, c.v_read)
        found["nodes"] = (table.nodes / c.v_read).to(like)
        found["bins"] = binned(table.nodes)[0].to(torch.int32)
        found["coefficients"] = table.pieces.detach().permute(2, 0, 1).to(like).contiguous()
        most = found["coefficients"].abs().sum(-1).amax(0)
    found["sizes"] = LARGEST / most.clamp_min(torch.finfo(like.dtype).tiny)
    if bits := digit(chip):
        top = 2**bits - 1
        u = torch.arange(-top, top + 1, device=like.device).to(like) / top
        values = functions(u.unsqueeze(0), law, found["nodes"], found["coefficients"])[0] * found["sizes"].unsqueeze(1)
        values = torch.cat([values, values.new_full((len(values), 1), torch.nan)], dim=1)  # of what is no number
        found["digits"] = pairs(values).T
    return found


def binned(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The interval between nodes in which each of a row of equal bins starts, and the most nodes within one."""
    edges = nodes[0] + (nodes[-1] - nodes[0]) * torch.arange(4 * len(nodes), device=nodes.device) / (4 * len(nodes))
    bins = (torch.searchsorted(nodes, edges, right=True) - 1).clamp(0, len(nodes) - 2)
    return bins, (torch.cat([bins[1:], bins.new_tensor([len(nodes) - 2])]) - bins).max()


def _split(a: Tensor) -> tuple[Tensor, Tensor]:
    """Two halves whose sum a number is, to 22 bits."""
    larger = a.half()
    return larger, (a - larger.to(a.dtype)).half()


def pairs(a: Tensor) -> Tensor:
    """Numbers as words of two halves."""
    larger, smaller = (part.view(torch.int16).to(torch.int32) for part in _split(a))
    return (larger & 0xFFFF) | (smaller << 16)


def _filled(a: Tensor) -> Tensor:
    """With columns of zeros up to a multiple of `FILL`."""
    return torch.nn.functional.pad(a, (0, -a.shape[-1] % FILL))


def _unit(a: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What makes the largest of some dimensions `LARGEST`."""
    return LARGEST / a.abs().amax(dims, keepdim=True).clamp_min(LARGEST * torch.finfo(a.dtype).tiny)


def bit_by_bit(chip: TiledMatrix) -> bool:
    """Whether cells that are not linear see full voltages of either sign or none."""
    return digit(chip) == 1 and kind(chip) in (POLYNOMIAL, TABLE)


def whole(chip: TiledMatrix) -> int:
    """What the kernel reads of an input: a pair of halves (0), the DAC's number in the first (1), or its digits (2)."""
    if digit(chip):
        return 2
    bits = chip.config.dac.bits
    return int(bits is not None and bits <= MOST_WHOLE_BITS and kind(chip) in (LINEAR, SIGNS))


def _halves(chip: TiledMatrix, weights: Tensor, law: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in units of their column as two halves, and what codes such a unit is."""
    c, counted = chip.config, LARGEST
    if bit_by_bit(chip):
        ends = torch.cat([torch.ones_like(law["sizes"][:1]), -torch.ones_like(law["sizes"][:1])])
        values = functions(ends.unsqueeze(0), kind(chip), law["nodes"], law["coefficients"])[0]  # [F, 2]
        weights = torch.einsum("mcrfkn,fs->mcrskn", weights, values * ends)
    elif kind(chip) in (POLYNOMIAL, TABLE):
        weights = weights * (LARGEST / law["sizes"]).view(-1, 1, 1)
    if whole(chip) == 2 and (bit_by_bit(chip) or kind(chip) in (LINEAR, SIGNS)):
        counted = 2.0**c.dac.slice_bits - 1
    elif whole(chip) == 1:
        counted = steps(c.dac.bits or 2)
    unit = _unit(weights, (2, 3, 4))
    return {"halves": _filled(torch.stack(_split(weights * unit))), "back": (1 / (unit * counted)).squeeze((2, 3, 4))}


def _noise(
    chip: TiledMatrix, g: Tensor, gain: Tensor, columns: Callable[[Tensor], Tensor], like: Tensor
) -> dict[str, Tensor]:
    """Squared codes of noise: per V^2 and per V, and as halves in units of their column."""
    d, v = chip.config.devices, chip.config.v_read
    if not noisy(chip):
        none = like.view(1, 1, 1, 1, 1)
        return {"spread": none, "shot": none, "variances": none.half(), "loud": like}
    relative = chip.layout.sensed((chip.devices_on_chip.read_spread(g) * g) ** 2, combine=False)
    total = chip.layout.sensed(g, combine=False) * (2 * CHARGE * d.bandwidth)
    square = gain.unsqueeze(2).square()  # [M, R or 1, 1, channels, K outputs]
    spread, shot = (columns((a * square).permute(0, 3, 1, 2, 4).to(like)) for a in (relative, total))
    # in units of what the largest input makes
    parts = [spread * v**2, shot * (v + thermal_voltage(chip))]
    if digit(chip) == 1:  # where digits are 0 or 1, noise is the same by voltage and by its square
        kept = torch.stack(parts).sum(0, keepdim=True)
    else:
        kept = torch.stack([part for k, part in enumerate(parts) if noisy(chip) & (k + 1)])
    unit = _unit(kept, (0, 3, 4))
    loud = 1 / (unit * LARGEST)
    return {
        "spread": spread,
        "shot": shot,
        "variances": _filled((kept * unit).half()),
        "loud": loud.squeeze((0, 3, 4)),
    }


def thermal_voltage(chip: TiledMatrix) -> float:
    """Voltage at which shot noise equals thermal noise [V]."""
    return 2 * BOLTZMANN * chip.config.devices.temperature / CHARGE
