"""What fills cost, and what a trade earns after that."""

from __future__ import annotations

from dataclasses import dataclass

from domain.trading.signals import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Fee and slippage of one fill, in basis points."""

    fee_bps: float = 10.0
    slippage_bps: float = 2.0

    @property
    def round_trip_pct(self) -> float:
        """Fees and slippage of an entry and an exit together, in percent."""
        return 2.0 * (self.fee_bps + self.slippage_bps) / 100.0

    def entry_fill(self, direction: Direction, price: float) -> float:
        """Give the price at which a market order that opens is filled: worse by the slippage."""
        return price * (1.0 + _sign(direction) * self.slippage_bps / 10_000.0)

    def exit_fill(self, direction: Direction, price: float) -> float:
        """Give the price at which a market order that closes is filled: worse by the slippage."""
        return price * (1.0 - _sign(direction) * self.slippage_bps / 10_000.0)

    def profit_pct(self, direction: Direction, entry: float, price: float) -> float:
        """Give the profit of leaving at `price`, in percent of the entry's value, after both fees."""
        move = _sign(direction) * (price - entry)
        fees = self.fee_bps / 10_000.0 * (entry + price)
        return 100.0 * (move - fees) / entry


def _sign(direction: Direction) -> float:
    return 1.0 if direction == "LONG" else -1.0
