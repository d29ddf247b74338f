"""Every layer type on ideal arrays equals torch; and what one does with a network: share, save, copy, move, compile."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import crossbar
from crossbar import Config, TiledMatrix, convert, revert
from crossbar.layers import ArrayLayer
from devicelab.errors import ParameterError, ShapeError

ROUNDING = 1e-9  # float64: nothing but rounding, through conductances that differ from weights by a factor of 1e4
IDEAL = Config(rows=16, columns=8, nonlinear=False, g_low=1e-6, g_high=1e-4)
ALL_TILES = pytest.mark.parametrize("size", [(16, 8), (5, 3), (200, 200)], ids=["16x8", "5x3", "200x200"])


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=ROUNDING, atol=ROUNDING)


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3, padding=2, stride=2), (2, 4, 11)),
    (nn.Conv1d(4, 8, 3, padding="same", dilation=2, groups=2), (2, 4, 11)),
    (nn.Conv2d(4, 8, (3, 2), stride=(2, 1), dilation=(1, 2), groups=4, bias=False), (2, 4, 9, 8)),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (2, 6, 5, 7)),
    (nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (2, 3, 6, 7)),
    (nn.Conv2d(3, 5, 4, padding="same", padding_mode="reflect"), (2, 3, 6, 7)),
    (nn.Conv2d(3, 5, 3, padding=(2, 1), padding_mode="replicate"), (2, 3, 6, 7)),
    (nn.Conv2d(3, 5, 3, padding="valid"), (3, 6, 7)),
    (nn.Conv3d(2, 4, (2, 3, 2), padding=1, stride=(1, 2, 1), groups=2), (2, 2, 4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 5, stride=3, padding=2, output_padding=1, groups=2), (2, 4, 6)),
    (nn.ConvTranspose2d(3, 5, (3, 2), stride=2, padding=1, dilation=(2, 1), bias=False), (2, 3, 5, 4)),
    (nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 4, 2)),
    (nn.ConvTranspose2d(3, 5, 3), (3, 5, 4)),
]


@ALL_TILES
@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=str)
def test_convolutions(layer: nn.Module, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    layer, x = layer.double(), tensor(*shape)
    same(convert(layer, None, IDEAL.but(rows=size[0], columns=size[1]))(x), layer(x))


def test_transposed_convolution_to_a_given_size() -> None:
    layer, x = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1).double(), tensor(1, 3, 6, 6)
    same(convert(layer, None, IDEAL)(x, output_size=[12, 12]), layer(x, output_size=[12, 12]))


@pytest.mark.parametrize("scheme", ["two arrays", "two columns", "offset", "reference column"])
@pytest.mark.parametrize("partial_sums", ["digital", "analog"])
@pytest.mark.parametrize("subtraction", ["digital", "analog"])
@pytest.mark.parametrize("order", [{}, {"permute": True}, {"share_tiles": True}], ids=str)
def test_every_scheme(scheme: Any, partial_sums: Any, subtraction: Any, order: Any) -> None:
    config = IDEAL.but(scheme=scheme, partial_sums=partial_sums, subtraction=subtraction, **order)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 11)).double()
    x = tensor(2, 4, 5, 5)
    same(convert(net, None, config)(x), net(x))
    # through every column's circuits too: a converter of 24 bits is exact to 1e-6 of the largest sum
    fine = convert(net, None, config.but(adc__bits=24, dac__bits=24))(x)
    torch.testing.assert_close(fine, net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", ["two arrays", "two columns", "offset", "reference column"])
def test_slices_hold_all_bits_of_a_weight(scheme: Any) -> None:
    """Weights that are multiples of 1 / 255, or of 1 / 127 around zero, survive slicing into 2-bit cells."""
    n = 127 if scheme in ("offset", "reference column") else 255
    weight = torch.randint(-n, n + 1, (7, 20), generator=torch.Generator().manual_seed(0)).double() / n
    weight[0, 0] = 1.0
    matrix = TiledMatrix(weight, None, IDEAL.but(scheme=scheme, slices=4, slice_bits=2))
    x = tensor(3, 20)
    same(matrix(x), x @ weight.T)
    assert len(matrix.g.unique(dim=None).round(decimals=12).unique()) <= 4  # 2-bit cells
    with pytest.raises(AssertionError):  # bits that are not there are missed
        same(TiledMatrix(weight, None, IDEAL.but(scheme=scheme, slices=3, slice_bits=2))(x), x @ weight.T)


RECURRENT = [
    nn.RNN(5, 7, num_layers=2, bidirectional=True),
    nn.RNN(5, 7, nonlinearity="relu", batch_first=True),
    nn.LSTM(5, 7, num_layers=2, bidirectional=True, proj_size=3),
    nn.LSTM(5, 7, bias=False, batch_first=True, num_layers=2, dropout=0.5),
    nn.GRU(5, 7, num_layers=2, bidirectional=True, batch_first=True),
]


@pytest.mark.parametrize("layer", RECURRENT, ids=str)
def test_recurrent_layers(layer: Any) -> None:
    layer, x = layer.double().eval(), tensor(3, 4, 5)
    mapped = convert(layer, None, IDEAL)
    for a, b in ((mapped(x), layer(x)), (mapped(x[0]), layer(x[0]))):
        same(a, b)
    _, state = layer(x)
    begin = tuple(2 * s for s in state) if isinstance(state, tuple) else 2 * state
    same(mapped(x, begin), layer(x, begin))


@pytest.mark.parametrize("layer", [nn.LSTM(5, 7, 2, bidirectional=True), nn.GRU(5, 7)], ids=str)
@pytest.mark.parametrize("lengths", [[6, 4, 1], [2, 6, 3]])
def test_sequences_of_different_lengths(layer: Any, lengths: list[int]) -> None:
    layer = layer.double()
    x = pack_padded_sequence(tensor(6, 3, 5), torch.tensor(lengths), enforce_sorted=False)
    out, state = convert(layer, None, IDEAL)(x)
    expected, last = layer(x)
    same(out.data, expected.data)
    assert torch.equal(out.batch_sizes, expected.batch_sizes)
    same(state, last)


@pytest.mark.parametrize(
    "cell", [nn.RNNCell(5, 7), nn.RNNCell(5, 7, bias=False, nonlinearity="relu"), nn.GRUCell(5, 7)]
)
def test_cells(cell: Any) -> None:
    cell, x, h = cell.double(), tensor(4, 5), tensor(4, 7, seed=1)
    mapped = convert(cell, None, IDEAL)
    same((mapped(x), mapped(x, h), mapped(x[0], h[0])), (cell(x), cell(x, h), cell(x[0], h[0])))


def test_lstm_cell() -> None:
    cell, x, state = nn.LSTMCell(5, 7).double(), tensor(4, 5), (tensor(4, 7, seed=1), tensor(4, 7, seed=2))
    mapped = convert(cell, None, IDEAL)
    same((mapped(x), mapped(x, state)), (cell(x), cell(x, state)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True, "bias": False},
        {"kdim": 6, "vdim": 10},
        {"add_bias_kv": True, "add_zero_attn": True},
    ],
    ids=str,
)
def test_attention(options: dict[str, Any]) -> None:
    layer = nn.MultiheadAttention(12, 3, **options).double().eval()
    mapped = convert(layer, None, IDEAL)
    q, k, v = (
        tensor(5, 2, 12),
        tensor(4, 2, options.get("kdim", 12), seed=1),
        tensor(4, 2, options.get("vdim", 12), seed=2),
    )
    if options.get("batch_first"):
        q, k, v = (a.transpose(0, 1) for a in (q, k, v))
    padding = torch.tensor([[False, False, True, True], [False] * 4])
    mask = torch.zeros(5, 4, dtype=torch.bool).index_fill_(1, torch.tensor([0]), True)
    for extra in (
        {},
        {"key_padding_mask": padding, "average_attn_weights": False},
        {"attn_mask": mask},
        {"attn_mask": tensor(6, 5, 4), "key_padding_mask": padding.double()},
        {"need_weights": False},
    ):
        same(mapped(q, k, v, **extra), layer(q, k, v, **extra))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_layers_do_not_bypass_the_arrays(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(12, 4, 20, batch_first=True, norm_first=norm_first)
    net, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).double().eval(), tensor(2, 5, 12)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    mapped = convert(net, None, IDEAL)
    coarse = convert(net, None, IDEAL.but(devices__levels=2))
    with torch.no_grad():  # where torch would take its fused path
        for options in ({}, {"src_key_padding_mask": padding}):
            expected, found = net(x, **options), mapped(x, **options)
            on = ~padding if options else torch.ones_like(padding)
            same(found[on], expected[on])
        assert (coarse(x) - net(x)).abs().max() > 0.01


def test_embedding_reads_word_lines() -> None:
    layer, index = nn.Embedding(30, 6, padding_idx=2).double(), torch.tensor([[0, 29, 2], [7, 7, 1]])
    for config in (IDEAL, IDEAL.but(scheme="offset"), IDEAL.but(adc__bits=24)):
        torch.testing.assert_close(convert(layer, None, config)(index), layer(index), rtol=1e-6, atol=1e-6)
    with pytest.raises(ParameterError, match="renormalises"):
        convert(nn.Embedding(30, 6, max_norm=1.0), None, IDEAL)


FINE = pytest.mark.parametrize("config", [IDEAL, IDEAL.but(scheme="offset", adc__bits=24)], ids=["ideal", "converters"])


@FINE
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 2])
def test_bags_of_words(mode: Any, padding: int | None, config: Config) -> None:
    """Rows, and offsets with an empty bag; a word twice in a bag; padding that does not count, also alone."""
    layer = nn.EmbeddingBag(30, 6, mode=mode, padding_idx=padding).double()
    mapped = convert(layer, None, config)
    rows, words = torch.tensor([[0, 29, 2], [7, 7, 1], [2, 2, 2]]), torch.tensor([5, 2, 9, 9, 0, 2])
    offsets = torch.tensor([0, 2, 2, 5])
    for args in ((rows,), (words, offsets)):
        torch.testing.assert_close(mapped(*args), layer(*args), rtol=1e-5, atol=1e-5)
    small = convert(layer, None, config.but(budget=8 * 30 * 2))  # two bags at a time
    torch.testing.assert_close(small(words, offsets), layer(words, offsets), rtol=1e-5, atol=1e-5)
    ends = nn.EmbeddingBag(30, 6, mode=mode, padding_idx=padding, include_last_offset=True, _weight=layer.weight.data)
    last = torch.tensor([0, 2, 2, 6])
    torch.testing.assert_close(convert(ends, None, config)(words, last), ends(words, last), rtol=1e-5, atol=1e-5)


def test_bags_of_weighted_words() -> None:
    layer = nn.EmbeddingBag(30, 6, mode="sum").double()
    mapped = convert(layer, None, IDEAL)
    rows, weights = torch.tensor([[0, 29, 2], [7, 7, 1]]), tensor(2, 3).requires_grad_()
    same(mapped(rows, per_sample_weights=weights), layer(rows, per_sample_weights=weights))
    gradients = [
        torch.autograd.grad(net(rows, per_sample_weights=weights).sum(), weights)[0] for net in (mapped, layer)
    ]
    same(*gradients)
    with pytest.raises(ShapeError, match="begin at offsets"):
        mapped(torch.tensor([1, 2]))
    with pytest.raises(ShapeError, match="weights of words"):
        convert(nn.EmbeddingBag(30, 6).double(), None, IDEAL)(rows, per_sample_weights=weights)
    with pytest.raises(ParameterError, match="renormalises"):
        convert(nn.EmbeddingBag(30, 6, max_norm=1.0), None, IDEAL)


@FINE
@pytest.mark.parametrize("bias", [True, False])
def test_bilinear_layers(bias: bool, config: Config) -> None:
    layer, x1, x2 = nn.Bilinear(7, 5, 3, bias=bias).double(), tensor(2, 4, 7), tensor(2, 4, 5, seed=1)
    mapped = convert(layer, None, config)
    torch.testing.assert_close(mapped(x1, x2), layer(x1, x2), rtol=1e-5, atol=1e-5)
    assert next(crossbar.placed(mapped)).shape == "21x5"
    same(revert(mapped)(x1, x2), layer(x1, x2))


def test_shared_and_tied_layers_share_arrays() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head, self.again = nn.Embedding(9, 5), nn.Linear(5, 9, bias=False), nn.Linear(5, 9)
            self.head.weight = self.embed.weight
            self.again.weight = self.embed.weight
            self.aside = [self.head]  # a use that torch does not know of

        def forward(self, i: torch.Tensor) -> torch.Tensor:
            return self.aside[0](self.embed(i)) + self.again(self.embed(i))

    net = Tied().double()
    mapped: Any = convert(net, None, IDEAL)
    i = torch.tensor([3, 8])
    same(mapped(i), net(i))
    assert mapped.head.matrix is mapped.again.matrix  # one matrix, on one set of devices
    assert mapped.aside[0] is mapped.head
    assert mapped.head.weight is mapped.embed.weight
    assert mapped.embed.matrix is not mapped.head.matrix  # driven along the other lines
    lines = crossbar.report(mapped).splitlines()
    assert len(lines) == 4  # head and again in one line, between the title and the total
    back: Any = revert(mapped)
    same(back(i), net(i))
    assert back.head.weight is back.embed.weight


def test_report_counts_tiles_and_devices() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(72, 11))
    text = crossbar.report(convert(net, None, IDEAL))
    # 2 groups of 18 x 4: two row tiles and one column tile, plus and minus; 72 x 11: 5 x 2 tiles, plus and minus
    conv, linear, total = text.splitlines()[1:]
    assert [conv.split()[-2:], linear.split()[-2:]] == [["8", "1,024"], ["20", "2,560"]]
    assert total.split()[-2:] == ["28", "3,584"]


@pytest.mark.parametrize(
    ("scheme", "tiles"), [("two arrays", 20), ("two columns", 15), ("offset", 10), ("reference column", 10)]
)
def test_outputs_fill_the_columns_of_a_tile(scheme: Any, tiles: int) -> None:
    """72 x 11 on tiles of 16 x 8: five row tiles; 8, 4, 8 or 7 outputs a tile."""
    assert TiledMatrix(tensor(11, 72), None, IDEAL.but(scheme=scheme)).tiles == tiles
    assert TiledMatrix(tensor(11, 72), None, IDEAL.but(scheme=scheme, slices=3, slice_bits=2)).tiles == 3 * tiles


def test_groups_share_tiles() -> None:
    layer = nn.Conv2d(8, 8, 2, groups=8)  # 4 x 1 matrices
    apart, together = (convert(layer, None, IDEAL.but(share_tiles=share)) for share in (False, True))
    assert [next(crossbar.placed(net)).matrix.tiles for net in (apart, together)] == [16, 4]


def test_skipped_layers_and_arrays_of_their_own() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    mapped = convert(net, None, IDEAL, skip=("0",), own={"4": IDEAL.but(rows=4)})
    assert type(mapped[0]) is nn.Linear
    assert [p.matrix.config.rows for p in crossbar.placed(mapped)] == [16, 4]
    with pytest.raises(ParameterError, match="no layer has such a name"):
        convert(net, None, IDEAL, skip=("classifier",))


def test_revert_gives_the_digital_network() -> None:
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).double()
    mapped, x = convert(net, None, IDEAL.but(devices__levels=4)), tensor(2, 3, 8)
    back = revert(mapped)
    assert [type(m) for m in back.modules()] == [type(m) for m in net.modules()]
    same(back(x), net(x))
    back[0].weight.data.zero_()  # a copy: the arrays' weights are not touched
    same(revert(mapped)(x), net(x))
    with pytest.raises(ParameterError, match="nothing"):
        revert(net)


def network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).double(), tensor(3, 2, 6, 6)


ROUGH = IDEAL.but(devices__d2d=0.2, devices__stuck_on=0.02, adc__bits=6, adc__per="column", dac__bits=6, permute=True)


def test_state_goes_into_a_fresh_conversion() -> None:
    net, x = network()
    one = convert(net, None, ROUGH, calibration=x)
    crossbar.tune(one, x)
    other = copy.deepcopy(net)
    for p in other.parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(1))
    two = convert(other, None, ROUGH)
    assert not torch.allclose(two(x), one(x))
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    two.load_state_dict(torch.load(buffer, weights_only=True))
    same(two(x), one(x))
    same(revert(two)(x), net(x))


def test_copies_and_files_hold_the_whole_network(tmp_path: Path) -> None:
    net, x = network()
    mapped = convert(net, None, ROUGH, calibration=x)
    torch.save(mapped, tmp_path / "net.pt")
    for other in (copy.deepcopy(mapped), torch.load(tmp_path / "net.pt", weights_only=False)):
        same(other(x), mapped(x))
        assert other[0].weight is other[0].digital.weight
        with torch.no_grad():
            other[0].matrix.g.zero_()
            other[0].weight.zero_()
    same(revert(mapped)(x), net(x))  # copies are copies


def test_conversion_to_another_type_and_place() -> None:
    net, x = network()
    mapped = convert(net, None, ROUGH, calibration=x).float()
    out = mapped(x.float())
    assert out.dtype == torch.float32
    assert (out - net(x)).norm() < 0.5 * net(x).norm()
    meta = convert(net, None, ROUGH).to("meta")
    assert meta(x.to("meta")).shape == (3, 5)  # every tensor moved, and no value is looked at on the way


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_devices_on_cuda() -> None:
    net, x = network()
    on_cpu = convert(net, None, ROUGH, calibration=x)
    there = convert(net.cuda(), None, ROUGH, calibration=x.cuda())
    torch.testing.assert_close(there[0].matrix.g.cpu(), on_cpu[0].matrix.g, rtol=1e-12, atol=0)
    torch.testing.assert_close(there(x.cuda()).cpu(), on_cpu.cuda()(x.cuda()).cpu(), rtol=1e-6, atol=1e-6)


def test_autocast_does_not_round_conductances() -> None:
    net, x = network()
    net, x = net.float(), x.float()
    mapped = convert(net, None, IDEAL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = mapped(x)
    torch.testing.assert_close(out.float(), net(x), rtol=1e-4, atol=1e-4)  # bfloat16 would be off by 1e-2


@pytest.mark.parametrize("config", [IDEAL, ROUGH], ids=["ideal", "rough"])
def test_compiled_networks(config: Config) -> None:
    net, x = network()
    mapped = convert(net, None, config, calibration=x)
    torch._dynamo.reset()
    compiled = torch.compile(mapped, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        same(compiled(x), mapped(x))


def test_product_without_a_network() -> None:
    weight, x = tensor(30, 20), tensor(2, 3, 20, seed=1)
    same(TiledMatrix(weight, None, IDEAL)(x), x @ weight.T)
    with pytest.raises(ShapeError, match="inputs do not fit"):
        TiledMatrix(weight, None, IDEAL)(tensor(3, 21))
    with pytest.raises(ShapeError, match="a matrix is needed"):
        TiledMatrix(weight[0], None, IDEAL)
    with pytest.raises(ParameterError, match="cannot be mapped"):
        TiledMatrix(weight * torch.nan, None, IDEAL)


def test_every_layer_of_a_network_is_an_array_layer() -> None:
    net, _ = network()
    mapped = convert(net, None, IDEAL)
    assert sum(isinstance(m, ArrayLayer) for m in mapped.modules()) == 2
    assert not any(type(m) in crossbar.convert.__globals__["LAYERS"] for m in mapped.modules())


@pytest.mark.parametrize("layer", [
    nn.Linear(5, 4), nn.Conv1d(2, 3, 2), nn.LSTM(3, 4), nn.MultiheadAttention(8, 2), nn.EmbeddingBag(9, 3),
    nn.Bilinear(3, 4, 2),
], ids=str)  # fmt: skip
def test_weights_of_a_digital_network_are_written_when_loaded(layer: Any) -> None:
    """A state without conductances: what was loaded is programmed; a state with them is taken as it is."""
    other = copy.deepcopy(layer.double())
    for p in other.parameters():
        p.data = torch.randn(p.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    config = IDEAL.but(devices__c2c=0.2)
    one, two = convert(layer, None, config), convert(other, None, config)
    writes = [p.matrix.devices_on_chip.written for p in crossbar.placed(one)]
    one.load_state_dict(other.state_dict(), strict=False)
    assert [p.matrix.devices_on_chip.written for p in crossbar.placed(one)] == [n + 1 for n in writes]
    full = two.state_dict()
    one.load_state_dict(full)
    for a, b in zip(crossbar.placed(one), crossbar.placed(two), strict=True):
        assert torch.equal(a.matrix.g, b.matrix.g)
    one.train()
    one.eval()  # nothing was learnt, nothing is written
    for a, b in zip(crossbar.placed(one), crossbar.placed(two), strict=True):
        assert torch.equal(a.matrix.g, b.matrix.g)


def test_conversion_in_inference_mode_can_still_be_trained() -> None:
    net, x = network()
    with torch.inference_mode():
        mapped = convert(net, None, ROUGH, calibration=x)
        expected = mapped(x)
    same(mapped(x), expected)
    mapped.train()
    mapped(x).sum().backward()
    assert mapped[0].weight.grad.abs().sum() > 0


def test_what_stays_digital_is_listed_with_the_reason() -> None:
    class Own(nn.Linear):
        pass

    folded = nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
    net = nn.Sequential(nn.Linear(5, 5), Own(5, 5), folded, nn.LayerNorm(5), nn.Linear(5, 5), nn.ReLU())
    lines = crossbar.report(convert(net, None, IDEAL, skip=("4",))).split("left digital\n")[1].splitlines()
    reasons = {line.split()[0]: " ".join(line.split()[2:]) for line in lines}
    assert reasons["1"] == "a subclass may compute anything"
    assert "parametrizations" in reasons["2"]
    assert reasons["3"] == "no layer that arrays compute"
    assert reasons["4"] == "skipped"
    assert "0" not in reasons
    with pytest.raises(ParameterError, match="every layer is skipped"):
        convert(net, None, IDEAL, skip=("*",))
