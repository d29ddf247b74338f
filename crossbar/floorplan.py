"""Matrices of several layers on common tiles: where each block lies, and what its neighbours do to it.

A block is what one matrix has in one row tile and column tile: as many word lines as it has inputs there, as many bit
lines as its outputs need. On a tile of its own it is surrounded by unused cells; here by other blocks. Plus and minus
array and the slices of a weight are separate arrays, which all hold a block at the same place, so that they are read at
once as before. One block of a tile is read at a time: its word lines are driven, its bit lines are sensed. All others
are idle, `Config.idle_lines`; the cells on them load the lines like any others.

Shapes: T tiles, B blocks of a matrix, in the order [M, R, K] of `crossbar.layout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError

from .bias import Bias
from .cells import Ohmic
from .config import Config
from .devices import Population
from .engine import solve
from .layout import Layout
from .linear import effective_conductance
from .packing import Packing, pack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .chip import Chip

FIRST = 1 << 20
"""Of the numbers that set the draws of cells without a weight, above those of all matrices."""
_EXACT = 1e-11
"""Relative residual to which idle lines that float are solved, for linear cells."""


class Floorplan(nn.Module):
    """Tiles that several matrices share.

    Args:
        lut: The device.
        config: The arrays.
        stream: Sets the draws of the cells that no block uses.
    """

    cells: Tensor  # conductances [S], [T, S, P, rows, columns]

    def __init__(self, lut: Lut | None, config: Config, stream: int = 0) -> None:
        super().__init__()
        self.lut, self.config, self.stream = lut, config, FIRST + stream
        self.tenants: list[Chip] = []  # a list, so that they are no modules of this one, but of their layers
        self.packing: Packing | None = None
        self.register_buffer("cells", torch.empty(0, dtype=torch.float64, device="cpu"), persistent=False)

    @property
    def open(self) -> bool:
        """Whether matrices may still be added; nothing can be read before `close`."""
        return self.packing is None

    def add(self, chip: Chip) -> Place:
        """A place for a matrix; where it is, `close` decides."""
        if not self.open:
            raise ParameterError("the tiles are packed already", hint="convert the network anew")
        self.tenants.append(chip)
        return Place(self, chip.layout)

    @torch.no_grad()
    def close(self) -> None:
        """Pack the blocks, and write every cell."""
        sizes = [block_sizes(chip.layout) for chip in self.tenants]
        rows, columns = self.config.rows, self.config.columns
        heights, widths = (torch.cat([size[k] for size in sizes]).tolist() for k in (0, 1))
        self.packing = packing = pack(heights, widths, rows, columns)
        _, slices, arrays, *_ = self.tenants[0].layout.shape
        shape = torch.Size((packing.tiles, slices, arrays, rows, columns))
        like = self.tenants[0].g.new_zeros((), dtype=torch.float64)
        spare = Population(shape, self.lut, self.config, self.stream, like)
        self.cells = spare.write(like.new_zeros(shape))
        found = (torch.from_numpy(a) for a in (packing.tile, packing.up, packing.along))
        counts = [len(size[0]) for size in sizes]
        for chip, *where in zip(self.tenants, *(a.split(counts) for a in found), strict=True):
            _place(chip).lay(*where)
            self.put(_place(chip), chip.g)
        for chip in self.tenants:
            chip.refresh()

    @torch.no_grad()
    def put(self, place: Place, g: Tensor) -> None:
        """Set the cells of a matrix [M, S, P, R, K, rows, columns]; what neighbours see of them, `settle` works out."""
        cells = self.cells.clone() if self.cells.is_inference() else self.cells
        cells[place.tiles] = place.composed(g.detach()).to(cells)
        self.cells = cells

    def settle(self, place: Place, g: Tensor) -> None:
        """Set the cells of a matrix, and let its neighbours feel it."""
        self.put(place, g)
        if not coupled(self.config):
            return
        for chip in self.tenants:
            if (other := _place(chip)) is not place:
                near = torch.isin(other.tile, place.tiles)
                if bool(near.any()):
                    chip.refresh(near.nonzero()[:, 0])

    # figures

    @property
    def tiles(self) -> int:
        """Arrays, plus and minus ones and slices each counted."""
        return int(self.cells.shape[:-2].numel())

    @property
    def devices(self) -> int:
        """Cells, unused ones included."""
        return int(self.cells.numel())

    @property
    def used(self) -> int:
        """Cells that belong to a block."""
        return sum(_place(chip).devices for chip in self.tenants)

    @property
    def alone(self) -> tuple[int, int]:
        """Arrays and cells if no two blocks shared a tile."""
        counts = [chip.layout.shape for chip in self.tenants]
        return sum(shape[:-2].numel() for shape in counts), sum(shape.numel() for shape in counts)

    @property
    def least(self) -> int:
        """Arrays below which no packing can go, by a bound; see `crossbar.packing.least_tiles`."""
        planes = int(self.cells.shape[1:3].numel())
        return planes * (0 if self.packing is None else self.packing.least)

    def __str__(self) -> str:
        """Fill with and without sharing, and how far packing could go."""
        fill, before = (100 * self.used / cells for cells in (self.devices, self.alone[1]))
        return (
            f"{self.config.rows} x {self.config.columns} tiles shared: {fill:.0f} % of the devices hold weights, "
            f"{before:.0f} % without sharing; fewer than {self.least:,} tiles cannot hold them"
        )

    def figure(self, names: dict[Chip, str] | None = None, most: int = 24) -> Figure:
        """The tiles with their blocks, a colour for each matrix; drivers left, sense nodes below.

        Args:
            names: Of the matrices, for the legend.
            most: Tiles shown.
        """
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        rows, columns = self.config.rows, self.config.columns
        shown = min(most, len(self.cells))
        wide = min(shown, 8)
        high = -(-shown // wide)
        figure, axes = plt.subplots(
            high, wide, figsize=(max(4.0, 1.25 * wide), 1.25 * high * rows / columns + 0.9), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        colours = plt.get_cmap("tab20")
        handles: dict[str, Any] = {}
        for number, ax in enumerate(axes.flat):
            ax.set_axis_off()
            if number < shown:
                ax.add_patch(Rectangle((0, 0), columns, rows, facecolor="0.93", edgecolor="0.4", lw=0.6))
                ax.set_xlim(-0.5, columns + 0.5)
                ax.set_ylim(-0.5, rows + 0.5)
                ax.set_aspect("equal")
        for k, chip in enumerate(self.tenants):
            place, label = _place(chip), (names or {}).get(chip, f"matrix {k}")
            at = zip(*(a.tolist() for a in (place.tile, place.up, place.along, *block_sizes(chip.layout))), strict=True)
            for tile, up, along, h, w in at:
                if tile < shown:
                    patch = Rectangle((along, up), w, h, facecolor=colours(k % 20), edgecolor="white", lw=0.4)
                    axes.flat[tile].add_patch(patch)
                    handles.setdefault(label, patch)
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)), frameon=False,
            fontsize=7,
        )  # fmt: skip
        planes = int(self.cells.shape[1:3].numel())
        kind = f", each {planes} arrays" if planes > 1 else ""
        more = f"; {shown} of {len(self.cells)} shown" if shown < len(self.cells) else ""
        figure.suptitle(
            f"{rows} x {columns} tiles{kind}, {100 * self.used / self.devices:.0f} % of the cells used "
            f"({100 * self.used / self.alone[1]:.0f} % without sharing){more}",
            fontsize=8,
        )
        return figure


class Place(nn.Module):
    """Where the blocks of one matrix lie on a floor plan, and the way between its own lines and those of the tiles.

    Lines that a block does not use are numbered `rows` or `columns`, one beyond the last.

    Args:
        floor: The tiles.
        layout: Of the matrix.
    """

    tile: Tensor  # [B]
    up: Tensor  # [B] word lines below
    along: Tensor  # [B] bit lines to the left
    tiles: Tensor  # [U] those that it lies on
    index: Tensor  # [B] into `tiles`
    word: Tensor  # [B, rows] word line of the tile for every line of the block
    bit: Tensor  # [B, columns]
    source: Tensor  # [B, rows] line of the block for every word line of the tile

    def __init__(self, floor: Floorplan, layout: Layout) -> None:
        super().__init__()
        self.floor, self.layout = floor, layout
        for name in ("tile", "up", "along", "tiles", "index", "word", "bit", "source"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64, device="cpu"), persistent=False)

    def lay(self, tile: Tensor, up: Tensor, along: Tensor) -> None:
        """Take up a packing."""
        rows, columns = self.floor.config.rows, self.floor.config.columns
        height, width = block_sizes(self.layout)
        self.tile, self.up, self.along = (a.to(self.floor.tenants[0].g.device) for a in (tile, up, along))
        self.tiles, self.index = self.tile.unique(return_inverse=True)
        height, width = height.to(self.tile.device), width.to(self.tile.device)
        # blocks fill the last word lines and the first bit lines of their layout
        below = torch.arange(rows - 1, -1, -1, device=self.tile.device)
        self.word = torch.where(below < height[:, None], rows - 1 - self.up[:, None] - below, rows)
        count = torch.arange(columns, device=self.tile.device).expand(len(width), -1)
        if self.layout.config.scheme == "reference column":  # the last column is the reference, wherever others end
            count = torch.where(
                count == columns - 1, width[:, None] - 1, count + (count >= width[:, None] - 1) * columns
            )
        self.bit = torch.where(count < width[:, None], self.along[:, None] + count, columns)
        own = below - self.up[:, None]  # lines from the block's lower end, for those of the tile
        self.source = torch.where((own >= 0) & (own < height[:, None]), rows - 1 - own, rows)

    @property
    def devices(self) -> int:
        """Cells of its blocks."""
        height, width = block_sizes(self.layout)
        return int((height * width).sum()) * self.layout.shape[1:3].numel()

    @property
    def arrays(self) -> int:
        """Arrays that it lies on."""
        return len(self.tiles) * self.layout.shape[1:3].numel()

    @property
    def turns(self) -> int:
        """Reads, one after the other, that one vector takes, since one block of a tile is read at a time."""
        return int(self.index.bincount().max())

    @property
    def share(self) -> float:
        """Its part of the arrays: of each tile, its part of the used cells."""
        total = torch.zeros(len(self.floor.cells), dtype=torch.float64, device="cpu")
        own = total.clone()
        for chip in self.floor.tenants:
            height, width = block_sizes(chip.layout)
            other = _place(chip)
            area = torch.zeros_like(total).index_add_(0, other.tile.cpu(), (height * width).double())
            total += area
            own = area if other is self else own
        return float((own / total).sum()) * self.layout.shape[1:3].numel()

    def block(self, row: int, column: int, matrix: int) -> int:
        """Number of a block."""
        return (matrix * self.layout.row_tiles + row) * self.layout.column_tiles + column

    # cells

    def composed(self, g: Tensor) -> Tensor:
        """The tiles that it lies on with other conductances in its own cells, [U, S, P, rows, columns].

        Args:
            g: Its conductances [S], [M, S, P, R, K, rows, columns].
        """
        tiles = self.floor.cells[self.tiles].to(g)
        padded = nn.functional.pad(tiles, (0, 1, 0, 1)).permute(0, 3, 4, 1, 2)  # what is not used goes beyond the edge
        blocks = _by_block(g).permute(0, 3, 4, 1, 2)  # [B, rows, columns, S, P]
        where = self.index[:, None, None], self.word[:, :, None], self.bit[:, None, :]
        return padded.index_put(where, blocks)[:, :-1, :-1].permute(0, 3, 4, 1, 2)

    def seen(self, tiles: Tensor, blocks: Tensor | None = None) -> Tensor:
        """The tile of every block, [B, S, P, rows, columns], of `composed` ones."""
        return tiles[self.index if blocks is None else self.index[blocks]]

    def through(self, tiles: Tensor, blocks: Tensor | None = None) -> Tensor:
        """Conductance from the inputs of every block to its columns through the lines of the tile, linear cells.

        Args:
            tiles: From `composed`.
            blocks: Numbers of blocks; None: all.

        Returns:
            [B, S, P, rows, columns] in the lines of the blocks; 0 where they have none.
        """
        config = self.floor.config
        blocks = torch.arange(len(self.index), device=tiles.device) if blocks is None else blocks
        wires = config.wires
        if config.idle_lines != "grounded":
            whole = torch.stack([self._floating(tiles, int(k)) for k in blocks])
        elif wires is None or wires.ideal:
            whole = self.seen(tiles, blocks)
        else:
            needed, index = self.index[blocks].unique(return_inverse=True)
            flat = tiles[needed].flatten(0, 2)
            at_once = max(1, int(config.budget // (8 * 8 * flat[0].numel())))
            found = torch.cat([effective_conductance(part, wires) for part in flat.split(at_once)])
            whole = found.unflatten(0, (len(needed), *tiles.shape[1:3]))[index]
        padded = nn.functional.pad(whole, (0, 1, 0, 1))
        word, bit = self.word[blocks][:, None, None, :, None], self.bit[blocks][:, None, None, None, :]
        return padded.take_along_dim(word, -2).take_along_dim(bit, -1)

    def _floating(self, tiles: Tensor, block: int) -> Tensor:
        """The array of one block as a matrix [S, P, rows, columns], word lines driven one by one."""
        config = self.floor.config
        g = tiles[self.index[block]].double()
        rows = g.shape[-2]
        own = self.source[block] < rows
        unit = torch.eye(rows, dtype=g.dtype, device=g.device)[own]
        i = solve(Ohmic(g), self.bias(unit, block), config.wires, rtol=_EXACT, method="newton").i_out
        out = torch.zeros(*i.shape[:-2], rows, i.shape[-1], dtype=i.dtype, device=i.device)
        return out.index_copy(-2, own.nonzero()[:, 0], i).to(tiles.dtype)

    def bias(self, v: Tensor, block: int) -> Tensor | Bias:
        """What drives the tile of a block while it is read: voltages [..., b, rows] of the tile's word lines [V]."""
        idle = self.floor.config.idle_lines
        if idle == "grounded":
            return v
        rows, columns = self.floor.config.rows, self.floor.config.columns
        words = self.source[block] == rows
        bits = torch.ones(columns + 1, dtype=torch.bool, device=v.device)
        bits[self.bit[block]] = False
        return Bias(v, None, words, bits[:columns] if idle == "floating" else None)

    # lines

    def inputs(self, v: Tensor) -> Tensor:
        """Voltages of every block's tile, [M, R, K, b, rows], from those of the matrix's word lines [M, R, b, rows]."""
        m, r, k = self._counts
        source = self.source.view(m, r, k, 1, -1)
        return nn.functional.pad(v, (0, 1)).unsqueeze(2).take_along_dim(source, -1)

    def outputs(self, i: Tensor) -> Tensor:
        """Currents of the blocks' own columns, from those of their tiles, both [M, S, P, R, K, b, columns]."""
        m, r, k = self._counts
        bit = self.bit.view(m, 1, 1, r, k, 1, -1)
        return nn.functional.pad(i, (0, 1)).take_along_dim(bit, -1)

    def by_matrix(self, blocks: Tensor) -> Tensor:
        """Something of all blocks [B, S, P, rows, columns] in the order of a layout, [M, S, P, R, K, rows, columns]."""
        by_place: Tensor = blocks.unflatten(0, self._counts)
        return by_place.permute(0, 3, 4, 1, 2, 5, 6)

    @property
    def _counts(self) -> tuple[int, int, int]:
        return self.layout.matrices, self.layout.row_tiles, self.layout.column_tiles


def coupled(config: Config) -> bool:
    """Whether blocks on one tile feel each other: over ideal lines at given voltages they do not."""
    wires = config.wires
    return config.idle_lines != "grounded" or (wires is not None and not wires.ideal)


def block_sizes(layout: Layout) -> tuple[Tensor, Tensor]:
    """Word lines and bit lines that every block of a matrix uses, [B] each."""
    config, m = layout.config, layout.matrices
    rows = torch.full((layout.row_tiles,), config.rows, device="cpu")
    rows[0] -= layout.idle_rows
    outs = torch.full((layout.column_tiles,), layout.outputs, device="cpu")
    outs[-1] = layout.n_out - (layout.column_tiles - 1) * layout.outputs
    columns = {"two columns": 2 * outs, "reference column": outs + 1}.get(config.scheme, outs)
    height = rows[None, :, None].expand(m, -1, layout.column_tiles)
    width = columns[None, None, :].expand(m, layout.row_tiles, -1)
    return height.flatten(), width.flatten()


def _by_block(g: Tensor) -> Tensor:
    """[M, S, P, R, K, rows, columns] as [B, S, P, rows, columns]."""
    return g.permute(0, 3, 4, 1, 2, 5, 6).flatten(0, 2)


def _place(chip: Chip) -> Place:
    if chip.place is None:  # `Floorplan.add` gave it one
        raise ParameterError("this matrix shares no tiles")
    return chip.place
