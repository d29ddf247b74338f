"""Whole networks on arrays: images a second and memory beside plain torch, in one run on one thread.

    python tests/bench/bench_networks.py [--only SECTION ...] [--batch N] [--out FILE.json]

Sections (each can run by itself; with --out, those that the file holds already are passed over):
  linear     VGG-8 and GoogLeNet, CIFAR-10 shapes, ohmic cells, 16x16 tiles, differential, R_on 10k +- 1k, R_off 100k
             +- 10k, 6 levels, 6-bit ADC (the survey's configuration, PEERS); also 64x64 and 128x128 tiles
  lines      the same with 1 ohm a segment
  sinh       cells i = g sinh(3 v) / 3, without lines (rank 1: a matrix product)
  sinh-lines the same with 1 ohm a segment
  training   VGG-8, a step of hardware-aware training with the same arrays
  sneak      MLP 784-128-10 on MNIST-5k, 64x64 tiles, non-linear cells, 1 ohm a segment: ms an image and accuracy
             for tolerances 1e-1 to 1e-5
  convert    converting and programming GoogLeNet
Times are the shortest of a few runs; memory is the growth of a forked process at its peak. Plain torch runs in the same
section. Random weights, so that speed alone is measured, but for `sneak`, which trains first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's idle threads would spin where the kernels' work
import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from bench_crossbar import growth  # noqa: E402

from crossbar import Config, Wires, convert, network  # noqa: E402
from crossbar.config import ADC, Devices  # noqa: E402
from crossbar.datasets import load_data  # noqa: E402
from crossbar.study import calibration_inputs, outputs, train  # noqa: E402
from crossbar.zoo import input_shape, products  # noqa: E402
from devicelab import VTEAM, Lut  # noqa: E402

V_READ = 0.2
PEERS = {  # images/s on one thread of another machine of this kind (PEERS.md)
    ("linear", "vgg8", 16): "CrossSim 25, NeuroSim 0.33, MemTorch 0.067; torch 223",
    ("linear", "googlenet", 16): "CrossSim 0.90, NeuroSim 0.008, MemTorch 0.0036; torch 12.3",
    ("lines", "vgg8", 16): "CrossSim 0.051",
    ("sinh-lines", "vgg8", 16): "CrossSim 0.042",
    ("sinh", "vgg8", 16): "CrossSim 3.4",
}


def ohmic() -> Lut:
    """R_on 10 kohm, R_off 100 kohm."""
    return Lut.from_model(VTEAM(r_on=1e4, r_off=1e5, v_on=-2, v_off=2, k_on=1, k_off=1), 1.0)


def sinh(b: float = 3.0) -> Lut:
    """The same range of conductance, i = g sinh(b v) / b."""
    v = np.linspace(-1, 1, 201)
    g = np.linspace(1e-5, 1e-4, 33)
    table = g[:, None] * np.sinh(b * v) / b
    return Lut(v, np.linspace(0, 1, 33), table, device={"model": "sinh"})


def survey(size: int, **changes: Any) -> Config:
    """The survey's arrays."""
    devices = Devices(levels=6, r_on_spread=0.1, r_off_spread=0.1)
    base = Config(rows=size, columns=size, v_read=V_READ, nonlinear=False, adc=ADC(bits=6), devices=devices)
    return base.but(**changes)


def lines(ohm: float = 1.0) -> Wires:
    """Every segment and terminal alike."""
    return Wires(r_wl=ohm, r_bl=ohm, r_source=ohm, r_sense=ohm)


def best(work: Callable[[], Any], repeats: int, budget: float = 60.0) -> tuple[float, float]:
    """Shortest wall and CPU time of a few runs [s], as many as fit the budget, one at least."""
    wall, cpu, began = [], [], time.perf_counter()
    for _ in range(repeats):
        w, c = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
        if time.perf_counter() - began > budget:
            break
    return min(wall), min(cpu)


def compare(section: str, name: str, lut: Lut, config: Config, batch: int, plain_batch: int) -> dict[str, Any]:
    """Images a second on arrays and in plain torch."""
    net, size = network(name), config.rows
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *input_shape(name), generator=generator)
    big = torch.rand(plain_batch, *input_shape(name), generator=generator)
    with torch.no_grad():
        start = time.perf_counter()
        mapped = convert(net, lut, config, calibration=x[:8])
        programming = time.perf_counter() - start
        net(big[:2]), mapped(x[:1])
        plain, plain_cpu = best(lambda: net(big), 5)
        on_arrays, arrays_cpu = best(lambda: mapped(x), 3)
        memory = growth(lambda: mapped(x)) if on_arrays < 20 else float("nan")  # it runs twice more
        plain_memory = growth(lambda: net(x))
    row = {
        "section": section, "network": name, "tiles": size, "batch": batch,
        "images/s": batch / on_arrays, "torch images/s": plain_batch / plain,
        "times torch": (on_arrays / batch) / (plain / plain_batch),
        "times torch, CPU": (arrays_cpu / batch) / (plain_cpu / plain_batch),
        "MB": memory, "torch MB": plain_memory, "conversion s": programming,
        "peers": PEERS.get((section, name, size), ""),
    }  # fmt: skip
    show(row)
    return row


def show(row: dict[str, Any]) -> None:
    print(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if v != ""), flush=True
    )


def forward(section: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Sections with inference of the survey's networks."""
    nonlinear, wired = section.startswith("sinh"), section in ("lines", "sinh-lines")
    changes: dict[str, Any] = {"nonlinear": nonlinear}
    if wired:
        changes["wires"] = lines()
    lut = sinh() if nonlinear else ohmic()
    sizes = options.tiles or ([16] if section == "sinh" else [16, 64, 128])
    nets = options.networks or (["vgg8"] if nonlinear else ["vgg8", "googlenet"])
    out = []
    for name in nets:
        plain_batch = min(options.batch, 16 if name == "googlenet" else 128)
        batch = min(options.batch, 16) if name == "googlenet" else options.batch
        out += [compare(section, name, lut, survey(n, **changes), batch, plain_batch) for n in sizes]
    return out


def training(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A step of training through the arrays, against a step of plain torch."""
    out = []
    for size in options.tiles or [16, 64]:
        net = network("vgg8")
        x = torch.rand(options.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        y = torch.arange(options.batch) % 10
        mapped = convert(net, ohmic(), survey(size), calibration=x[:8])

        def step(model: torch.nn.Module, x: torch.Tensor = x, y: torch.Tensor = y) -> Callable[[], None]:
            optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
            model.train()

            def work() -> None:
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(x), y).backward()
                optimiser.step()

            work()
            return work

        plain, _ = best(step(network("vgg8")), 2)
        arrays, _ = best(step(mapped), 2)
        row = {
            "section": "training", "network": "vgg8", "tiles": size, "batch": options.batch,
            "images/s": options.batch / arrays, "torch images/s": options.batch / plain, "times torch": arrays / plain,
        }  # fmt: skip
        show(row)
        out.append(row)
    return out


def sneak(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Accuracy and time against the tolerance of the array solver."""
    data = load_data("mnist-5k")
    net = train(network("mlp"), data, epochs=8)
    x, y = data.test_part(options.images)
    calibration = calibration_inputs(data)
    wires, out = lines(), []
    device = Lut.from_model(
        VTEAM(
            r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
        ),
        1.0,
    )
    plain, _ = best(lambda: outputs(net, x, len(x)), 3)
    exact = outputs(
        convert(net, device, Config(v_read=V_READ, wires=wires, rtol=1e-9), calibration=calibration), x[:50]
    )
    for rtol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        mapped = convert(net, device, Config(v_read=V_READ, wires=wires, rtol=rtol), calibration=calibration)
        outputs(mapped, x[:4])
        seconds, cpu = best(lambda mapped=mapped: outputs(mapped, x, 100), 2, 40)
        scores = outputs(mapped, x)
        row = {
            "section": "sneak", "network": "mlp 784-128-10", "tiles": 64, "rtol": rtol, "images": len(x),
            "ms an image": 1e3 * seconds / len(x), "CPU ms an image": 1e3 * cpu / len(x),
            "accuracy %": 100 * float((scores.argmax(1) == y).float().mean()),
            "outputs off %": 100 * float((scores[:50] - exact).norm() / exact.norm()),
            "torch ms an image": 1e3 * plain / len(x),
        }  # fmt: skip
        show(row)
        out.append(row)
    digital = 100 * float((outputs(net, x).argmax(1) == y).float().mean())
    print(f"in floating point {digital:.2f} %")
    return out


def conversion(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Converting and programming GoogLeNet."""
    out = []
    for size in options.tiles or [16, 64, 128]:
        for name, config in (("ideal lines", survey(size)), ("1 ohm", survey(size, wires=lines()))):
            net = network("googlenet")
            start, cpu = time.perf_counter(), time.process_time()
            mapped = convert(net, ohmic(), config)
            row = {
                "section": "convert", "network": "googlenet", "tiles": size, "arrays": name,
                "seconds": time.perf_counter() - start, "CPU s": time.process_time() - cpu,
                "devices": sum(m.devices for m in mapped.modules() if hasattr(m, "devices") and hasattr(m, "tiles")),
                "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }  # fmt: skip
            show(row)
            out.append(row)
    return out


SECTIONS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    **{name: (lambda options, name=name: forward(name, options)) for name in ("linear", "lines", "sinh", "sinh-lines")},
    "training": training,
    "sneak": sneak,
    "convert": conversion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--batch", type=int, default=128, help="images at once")
    parser.add_argument("--tiles", type=int, nargs="*", help="sizes of tiles")
    parser.add_argument("--networks", nargs="*", choices=["vgg8", "googlenet"])
    parser.add_argument("--images", type=int, default=200, help="test images of `sneak`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file that keeps finished sections")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    print("$ python tests/bench/bench_networks.py", *sys.argv[1:])
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, {options.threads} thread(s), "
        f"{platform.machine()}"
    )
    print(f"VGG-8 {products(network('vgg8'), (3, 32, 32)) / 1e6:.0f} M products, load {os.getloadavg()[0]:.1f}")
    for name in options.only:
        if name in done:
            print(f"{name}: kept from {options.out}")
            continue
        print(f"\n{name}", flush=True)
        done[name] = SECTIONS[name](options)
        if options.out:
            temporary = options.out.with_suffix(".part")
            temporary.write_text(json.dumps(done, indent=1))
            temporary.replace(options.out)


if __name__ == "__main__":
    main()
