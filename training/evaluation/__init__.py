"""Walk-forward evaluation over recorded candles, through the stages and trainings of production."""
