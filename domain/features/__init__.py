"""The model's vector of 72 features, computed from closed candles by one compiled loop."""
