"""Recordings shaped like an electroencephalogram (EEG) with seizures, generated from a stated recipe.

No patient's data can be shipped, so a case study on detecting seizures runs on these: channels x samples in microvolt,
with intervals in which a seizure is on, as in public sets such as CHB-MIT (Shoeb, 2009). The recipe, and why:

1. Background of every channel: noise whose power falls as 1/f (an EEG without rhythms is 1/f: He, Trends Cogn. Sci. 18,
   480 (2014)), 20 uV root mean square.
2. Alpha rhythm, 8 to 12 Hz, 15 uV, waxing and waning: a seizure detector must not fire on rhythm as such.
3. Blinks: slow bumps of 100 uV in the frontal channels, one in 4 s: it must not fire on amplitude as such.
4. Noise of electrode and amplifier, 2 uV, white. Mains are above half the rate: an anti-alias filter takes them.
5. A seizure adds spike and slow wave, 2.5 to 4 Hz, slowing by a quarter as absence seizures do (Panayiotopoulos,
   Epileptic Disord. 1, 1 (1999)), at an amplitude drawn for each seizure, 20 to 80 uV, and a random weight for each
   channel. The weakest drown in the background, so that the classes overlap.
6. Channels see each other's sources: a mixing matrix exp(-distance) of neighbours (volume conduction).

Windows of one second, at `RATE` samples a second, are labelled by whether a seizure is on in their middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import fftconvolve

from devicelab.errors import FileFormatError

from .datasets import Data
from .edf import read_edf, write_edf

RATE = 64
"""Samples a second."""
CHANNELS = 4
SEIZURE, PAUSE = (8.0, 20.0), (8.0, 24.0)
"""Shortest and longest duration of a seizure and of what lies between two [s]."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Recording:
    """One recording.

    Args:
        signal: Voltages [uV], [channels, t].
        seizure: Whether a seizure is on, [t].
        rate: Samples a second [Hz].
    """

    signal: Array
    seizure: np.ndarray[Any, np.dtype[np.bool_]]
    rate: int = RATE

    def windows(self) -> tuple[Array, Array]:
        """Windows of one second side by side [b, channels, rate], and whether a seizure is on in their middle [b]."""
        count = self.signal.shape[1] // self.rate
        cut = self.signal[:, : count * self.rate].reshape(len(self.signal), count, self.rate).swapaxes(0, 1)
        return cut, self.seizure[self.rate // 2 :: self.rate][:count].astype(np.int64)


def record(seconds: float, rng: np.random.Generator, *, channels: int = CHANNELS) -> Recording:
    """A recording by the recipe above.

    Args:
        seconds: Its duration.
        rng: Source of chance.
        channels: Electrodes, from the forehead backwards.
    """
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    signal = 20.0 * _pink(rng, (channels, n))
    envelope = np.clip(_smooth(rng, n, 2.0), 0, None)
    alpha = envelope * np.sin(2 * np.pi * np.cumsum(10 + 2 * np.tanh(_smooth(rng, n, 4.0))) / RATE)
    signal += np.linspace(0.3, 1.0, channels)[:, None] * 15.0 * alpha
    for start in rng.uniform(0, seconds, int(seconds / 4)):
        near = slice(max(0, int((start - 1) * RATE)), int((start + 1) * RATE))
        bump = 100.0 * np.exp(-0.5 * ((t[near] - start) / 0.12) ** 2)
        signal[:, near] += np.exp(-np.arange(channels))[:, None] * bump
    seizure = np.zeros(n, dtype=bool)
    begin = rng.uniform(*PAUSE)
    while begin < seconds:
        end = begin + rng.uniform(*SEIZURE)
        on = (t >= begin) & (t < end)
        seizure |= on
        weight = rng.uniform(0.3, 1.0, (channels, 1))
        signal[:, on] += weight * rng.uniform(20, 80) * _spike_and_wave(t[on] - begin, end - begin, rng)
        begin = end + rng.uniform(*PAUSE)
    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    mixing = np.exp(-distance / 0.7)
    signal = mixing @ signal / mixing.sum(axis=1, keepdims=True)
    return Recording(signal + 2.0 * rng.standard_normal((channels, n)), seizure)


def _spike_and_wave(t: Array, duration: float, rng: np.random.Generator) -> Array:
    """A sharp spike and a slow wave in every period; peak about 1."""
    f = rng.uniform(2.9, 4.0) * (1 - 0.25 * t / duration)
    phase = (rng.uniform() + np.cumsum(f) / RATE) % 1.0
    spike = np.exp(-0.5 * ((phase - 0.2) / 0.06) ** 2)
    return np.asarray(1.2 * spike - 0.6 * np.sin(np.pi * np.clip((phase - 0.35) / 0.65, 0, 1)))


def _pink(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Noise with a power spectrum 1/f above 0.5 Hz, root mean square 1."""
    f = np.fft.rfftfreq(shape[1], 1 / RATE)
    spectrum = rng.standard_normal((shape[0], f.size)) + 1j * rng.standard_normal((shape[0], f.size))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(f, 0.5)), n=shape[1])
    return np.asarray(noise / noise.std(axis=1, keepdims=True))


def _smooth(rng: np.random.Generator, n: int, seconds: float) -> Array:
    """Gaussian noise that changes over `seconds`, standard deviation about 1."""
    width = int(seconds * RATE)
    kernel = np.hanning(2 * width + 1)
    noise = rng.standard_normal(n + 2 * width)
    return np.asarray(fftconvolve(noise, kernel / np.sqrt((kernel**2).sum()), "valid"))


SEIZURE_SIGNAL = "SEIZURE"
"""Label of the signal that is above one half while a seizure is on."""


def save_recording(recording: Recording, path: str | Path, *, force: bool = False) -> None:
    """Write a recording as EDF: its channels in microvolt, and a last signal that says when a seizure is on."""
    labels = [f"EEG {k + 1}" for k in range(len(recording.signal))]
    values = np.vstack([recording.signal, recording.seizure.astype(float)])
    units = ["uV"] * len(labels) + ["1"]
    write_edf(path, values, [*labels, SEIZURE_SIGNAL], rate=recording.rate, units=units, force=force)


def load_recording(path: str | Path) -> Recording:
    """A recording from an EDF file with a signal called `SEIZURE_SIGNAL`.

    Raises:
        FileFormatError: If the file is not EDF, or lacks that signal.
    """
    signal, labels, rate = read_edf(path)
    if SEIZURE_SIGNAL not in labels or len(labels) < 2:
        raise FileFormatError("no signal says when a seizure is on", got=f"{path}: {labels}", allowed=SEIZURE_SIGNAL)
    k = labels.index(SEIZURE_SIGNAL)
    return Recording(np.delete(signal, k, axis=0), signal[k] > 0.5, rate)


def load_eeg(folder: str | Path) -> Data:
    """Windows of the recordings ``train.edf`` and ``test.edf`` of a folder, as `eeg_windows` makes them."""
    recordings = []
    for name in ("train.edf", "test.edf"):
        if not (Path(folder) / name).is_file():
            raise FileFormatError("recording not found", got=str(folder), allowed="train.edf and test.edf")
        recordings.append(load_recording(Path(folder) / name))
    return _data(recordings)


def eeg_windows(seconds: float = 5000.0, *, seed: int = 0) -> Data:
    """Windows of one second and whether a seizure is on: the first four fifths to train, a second recording to test.

    Training and test windows come from different recordings, so that no seizure is in both. They are scaled by a
    robust spread of the training recording, clipped at four of it, and shifted into 0 to 1, since word lines are driven
    one way.

    Args:
        seconds: Duration of both recordings together.
        seed: Of all chance.

    Returns:
        Inputs [b, channels, rate], class 1 for a seizure.
    """
    rng = np.random.default_rng(seed)
    return _data([record(share * seconds, rng) for share in (0.8, 0.2)])


def _data(recordings: list[Recording]) -> Data:
    """Windows to train on from the first recording, to test on from the second."""
    parts: list[torch.Tensor] = []
    scale: float | None = None
    for recording in recordings:
        x, y = recording.windows()
        scale = float(np.quantile(np.abs(x), 0.6827)) if scale is None else scale
        parts += [torch.from_numpy((np.clip(x / scale, -4, 4) / 8 + 0.5).astype(np.float32)), torch.from_numpy(y)]
    return Data("eeg", *parts)
