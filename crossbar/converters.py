"""Numbers to voltages and currents to numbers: DAC, sense circuit, ADC. Quantisers pass gradients straight through."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .config import ADC, DAC
from .devices import through


def steps(bits: int) -> int:
    """Steps on each side of zero of a converter with a sign."""
    return int(2 ** (bits - 1) - 1)


def quantise(u: Tensor, bits: int) -> Tensor:
    """Numbers within -1..1 to the nearest of the evenly spaced values, zero among them."""
    n = steps(bits)
    return through((u.detach() * n).round_().div_(n), u)


def reads(u: Tensor, dac: DAC) -> Iterator[tuple[float, Tensor]]:
    """The reads of the arrays that one set of inputs takes: the weight of each in the sum, and its inputs in -1..1."""
    if dac.bits is None:
        yield 1.0, u
    elif dac.encoding != "bit-serial":
        yield 1.0, quantise(u, dac.bits)
    else:
        n = steps(dac.bits)
        number, base = (u.detach() * n).round_(), 2**dac.slice_bits
        sign, rest = number.sign(), number.abs()
        count = -(-(dac.bits - 1) // dac.slice_bits)
        for k in range(count):
            digit = rest % base
            rest = (rest - digit) / base
            # every read passes the gradient of its share of the whole
            yield base**k * (base - 1) / n, through(sign * digit / (base - 1), u * (n / ((base - 1) * base**k * count)))


def convert_current(i: Tensor, full: Tensor, adc: ADC) -> Tensor:
    """What an ADC makes of currents [A], as currents again.

    Args:
        i: Currents.
        full: Largest current, broadcasts with `i`.
        adc: The converter.
    """
    if adc.bits is None:
        return i
    n = steps(adc.bits)
    part = i.detach() / full
    if adc.law == "linear":
        return through((part * n).round_().clamp_(-n, n) * (full / n), i)
    size = part.abs().clamp_max(1.0)
    step = adc.decades / max(n - 1, 1)
    least = 10.0**-adc.decades
    code = (torch.log10(size.clamp_min(least)) / step).round_()
    value = torch.where(size < 0.5 * least, torch.zeros_like(size), 10.0 ** (code * step))
    return through(part.sign() * value * full, i)


def sense(i: Tensor, gain: Tensor | None, offset: Tensor | None, saturation: float | None) -> Tensor:
    """Currents [A] after the sense amplifier and the integrator."""
    if gain is not None:
        i = i * gain
    if offset is not None:
        i = i + offset
    return i if saturation is None else i.clamp(-saturation, saturation)


def percentile(values: Tensor, q: float, dim: int | None = None) -> Tensor:
    """The q-th percentile [%], of everything or along the last dimension; the nearest value, no interpolation."""
    values = values.detach()
    if dim is None:
        values = values.flatten()
    count = values.shape[-1]
    if q >= 100:
        return values.amax(-1)
    return values.kthvalue(max(1, min(count, round(q / 100 * count))), dim=-1).values
