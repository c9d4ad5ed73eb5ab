"""From what an exchange says to closed candles: validity, order, holes, quiet minutes."""
