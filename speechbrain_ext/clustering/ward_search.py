"""Search for the next clusters to merge, used by `ward_tree`.

Three things keep the search for nearest clusters small. It is screened in
single precision and decided in double. A neighbour stays valid until it is
itself merged. And each cluster keeps a list of near ones with a bound on all
others, which outlives merges: since Ward's cost is reducible, a cluster that
grows comes no nearer.
"""

from __future__ import annotations

import numpy as np
import torch

from speechbrain_ext.utils.vectors import row_blocks

# Elements of the largest temporary matrix.
_GROUP = 64  # clusters in a group; only its nearest is checked first
_LISTED = 8  # near clusters that each cluster remembers


class Forest:
    """Current clusters, one in each slot, and the merges so far."""

    def __init__(
        self,
        x: np.ndarray,
        weights: np.ndarray,
        device: str | torch.device = "cpu",
    ):
        n = len(x)
        self.n_leaves = n
        self.merges: list[torch.Tensor] = []
        self.n_merges = 0
        self.means = torch.tensor(x, dtype=torch.float64, device=device)
        self.inverse = 1 / torch.tensor(weights, device=device)
        self.height = torch.zeros_like(self.inverse)
        self.count = torch.ones_like(self.inverse)
        self.cost = torch.zeros_like(self.inverse)
        self.beyond = torch.zeros_like(self.inverse)
        self.node = torch.arange(n, device=device)
        self.nearest = torch.zeros_like(self.node)
        self.listed = self.node.new_zeros(n, _LISTED)
        self.stale = torch.ones_like(self.node, dtype=torch.bool)
        self._prepare_screen()

    def _prepare_screen(self) -> None:
        """Copy the means in single precision, centred and scaled."""
        self.centre = self.means.mean(dim=0)
        self.scale = 1 / (self.means - self.centre).abs().max()
        # Rounding of a product of length D, doubled to be safe.
        self.slack = (self.means.shape[1] + 16) * 2.0**-23
        self.screen = torch.zeros_like(self.means, dtype=torch.float32)
        self.square = self.screen.new_zeros(self.n_leaves)
        self._update_screen(self.node)

    def _update_screen(self, slots: torch.Tensor) -> None:
        moved = (self.means[slots] - self.centre) * self.scale
        self.screen[slots] = moved.float()
        square = moved.square().sum(dim=1) * (1 - self.slack)
        self.square[slots] = square.float()

    def merge_round(self) -> int:
        """Merge all reciprocal nearest neighbours; return how many pairs."""
        self._search(self.stale.nonzero()[:, 0])
        slots = self._range(0, len(self.node))
        mutual = (self.nearest[self.nearest] == slots) & (slots < self.nearest)
        first = mutual.nonzero()[:, 0]
        if not len(first):
            # Only equal costs can make a cycle of nearest neighbours.
            first = self.cost.argmin()[None]
        second = self.nearest[first]
        near = torch.cat([self.listed[first], self.listed[second]], dim=1)
        beyond = self._union_beyond(first, second)
        self._join(first, second)
        position = self._forget(first, second)
        alone = self.stale.clone()
        alone[position[first]] = False
        self._look_up(position[first], position[near], beyond)
        rest = alone.nonzero()[:, 0]
        self._look_up(rest, self.listed[rest], self.beyond[rest])
        return len(first)

    def _union_beyond(
        self, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Return a lower bound of a union's cost with clusters on no list.

        Lance and Williams 1967 give that cost from those of the parts, at
        least ``beyond`` each, and the weight of the other cluster. It is
        monotonic in that weight: the bound is at the least or at infinity.
        """
        a, b = 1 / self.inverse[first], 1 / self.inverse[second]
        least = 1 / self.inverse.max()
        one, other = self.beyond[first], self.beyond[second]
        heavy = one + other - self.cost[first]
        light = (a * one + b * other + least * heavy) / (a + b + least)
        return light.minimum(heavy)

    def _join(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Merge pairs of slots; the first of each keeps the result."""
        height = (2 * self.cost[first]).sqrt()
        # Rounding must not place a cluster below its parts.
        height = height.maximum(self.height[first])
        height = height.maximum(self.height[second])
        pair = torch.stack([self.node[first], self.node[second]], dim=1)
        left, right = pair.double().sort(dim=1).values.T
        count = self.count[first] + self.count[second]
        self.merges.append(torch.stack([left, right, height, count], dim=1))

        u, v = self.inverse[first, None], self.inverse[second, None]
        self.means[first] = (v * self.means[first] + u * self.means[second]) / (
            u + v
        )
        self.inverse[first] = 1 / (1 / u + 1 / v)[:, 0]
        self.height[first], self.count[first] = height, count
        begin = self.n_leaves + self.n_merges
        self.node[first] = self._range(begin, begin + len(first))
        self.n_merges += len(first)
        self._update_screen(first)

    def _forget(
        self, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """Drop the second slots; return the new place of each slot [M].

        Who pointed at a merged one is stale.
        """
        merged = torch.zeros_like(self.stale)
        merged[first] = merged[second] = True
        self.stale = merged | merged[self.nearest]
        keep = torch.ones_like(self.stale)
        keep[second] = False
        position = keep.cumsum(0) - 1
        position[second] = position[first]
        self.nearest = position[self.nearest]
        self.listed = position[self.listed]
        for name in (
            "means inverse node height count cost nearest stale screen square "
            "listed beyond"
        ).split():
            setattr(self, name, getattr(self, name)[keep])
        return position

    def _look_up(
        self, slots: torch.Tensor, near: torch.Tensor, beyond: torch.Tensor
    ) -> None:
        """Find the nearest of slots [S] among near [S, C], where that is exact.

        It will where one of them costs less than any other can.
        """
        near = near.sort(dim=1).values
        other = near != slots[:, None]
        other[:, 1:] &= near[:, 1:] != near[:, :-1]
        row, place = other.nonzero().T
        costs = self.cost.new_full(near.shape, torch.inf)
        costs[row, place] = self._exact(slots[row], near[row, place])
        costs, order = costs.sort(dim=1)
        near = torch.where(costs.isinf(), slots[:, None], near.gather(1, order))
        if near.shape[1] > _LISTED:
            beyond = beyond.minimum(costs[:, _LISTED])
        self.listed[slots] = near[:, :_LISTED]
        self.beyond[slots] = beyond
        known = costs[:, 0] < beyond * (1 - 1e-9)
        slots, near, costs = slots[known], near[known], costs[known]
        row, place = (costs == costs[:, :1]).nonzero().T
        self._settle(slots, row, near[row, place], costs[row, place])

    def _search(self, slots: torch.Tensor) -> None:
        """Find the nearest slot among all: screened first, then exact."""
        if not len(slots):
            return
        width = -(-len(self.node) // _GROUP) * _GROUP
        scratch = self._scratch(len(slots), width)
        for rows in row_blocks(len(slots), width, self.node.device):
            block = slots[rows]
            row, column = self._candidates(block, scratch[:, : len(block)])
            self._settle(block, row, column, self._exact(block[row], column))

    def _settle(
        self,
        slots: torch.Tensor,
        row: torch.Tensor,
        column: torch.Tensor,
        cost: torch.Tensor,
    ) -> None:
        """Store the cheapest pair (place in slots, other slot) of each slot."""
        best = _minimum(cost, row, len(slots))
        row, column = (i[cost == best[row]] for i in (row, column))
        # Symmetric and different for each partner: equal costs still pair
        # off, many at a time.
        key = self.node[slots[row]] ^ self.node[column]
        first = key == _minimum(key, row, len(slots))[row]
        self.nearest[slots[row[first]]] = column[first]
        self.cost[slots] = best
        self.stale[slots] = False

    def _scratch(self, n_rows: int, width: int) -> torch.Tensor:
        """Allocate two matrices for `_bounds` once, as allocation is slow."""
        first = next(row_blocks(n_rows, width, self.node.device))
        scratch = self.screen.new_empty(2, min(first.stop, n_rows), width)
        scratch[0, :, len(self.node) :] = torch.inf
        return scratch

    def _candidates(
        self, block: torch.Tensor, scratch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pairs (place in the block, slot) that may be cheapest [P].

        The least of each group of columns is cheap to find; few groups are
        looked into.
        """
        self._bounds(block, scratch)
        bounds = scratch[0].view(len(block), -1, _GROUP)
        least = bounds.amin(dim=2)
        guess = self._list_nearest(block, bounds, least)
        limit = self._exact(block, guess) * self.scale**2
        limit = (limit * (1 + 1e-6) + 1e-30).float()[:, None]
        row, group = (least <= limit).nonzero().T
        pair, place = (bounds[row, group] <= limit[row]).nonzero().T
        return row[pair], group[pair] * _GROUP + place

    def _list_nearest(
        self, block: torch.Tensor, bounds: torch.Tensor, least: torch.Tensor
    ) -> torch.Tensor:
        """List for each row the slots of least bounds; return firsts [B]."""
        n_groups = min(_LISTED + 1, least.shape[1])
        groups = least.topk(n_groups, largest=False).indices
        within = bounds.gather(1, groups[..., None].expand(-1, -1, _GROUP))
        values, place = within.flatten(1).topk(_LISTED + 1, largest=False)
        slot = groups.gather(1, place // _GROUP) * _GROUP + place % _GROUP
        slot = torch.where(values.isinf(), block[:, None], slot)
        self.listed[block] = slot[:, :_LISTED]
        beyond = values[:, _LISTED].double() * (1 - 1e-6) - 1e-30
        self.beyond[block] = beyond / self.scale**2
        return slot[:, 0]

    def _bounds(self, block: torch.Tensor, scratch: torch.Tensor) -> None:
        """Compute lower bounds, nearly tight, of the scaled costs [B, M]."""
        bounds, divisor = scratch[..., : len(self.node)]
        torch.addmm(
            self.square,
            self.screen[block],
            self.screen.T,
            alpha=-2,
            out=bounds,
        )
        bounds += self.square[block, None]
        inverse = self.inverse.float()
        bounds /= torch.add(inverse[block, None], inverse, out=divisor)
        bounds[self._range(0, len(block)), block] = torch.inf

    def _exact(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Compute the exact cost of joining slots a [P] and b [P]."""
        costs = self.cost.new_empty(len(a))
        # Small blocks, to stay in the cache.
        for rows in row_blocks(len(a), 32 * self.means.shape[1], a.device):
            i, j = a[rows], b[rows]
            offset = self.means.index_select(0, i)
            offset -= self.means.index_select(0, j)
            square = offset.square_().sum(dim=1)
            costs[rows] = square / (self.inverse[i] + self.inverse[j])
        return costs

    def _range(self, begin: int, end: int) -> torch.Tensor:
        return torch.arange(begin, end, device=self.node.device)

    def tree(self) -> np.ndarray:
        """Return the merges by rising height, numbered as in SciPy."""
        merges = torch.cat(self.merges).cpu()
        # Stable: at equal heights the parts still come before the whole.
        order = merges[:, 2].argsort(stable=True)
        number = torch.arange(2 * self.n_leaves - 1, dtype=torch.float64)
        number[self.n_leaves + order] = number[self.n_leaves :].clone()
        merges = merges[order]
        merges[:, :2] = number[merges[:, :2].long()].sort(dim=1).values
        return merges.numpy()


def _minimum(
    values: torch.Tensor, group: torch.Tensor, n_groups: int
) -> torch.Tensor:
    """Return the minimum of each non-empty group [n_groups]."""
    result = values.new_zeros(n_groups)
    return result.scatter_reduce(0, group, values, "amin", include_self=False)
