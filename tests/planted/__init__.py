"""Markets in which it is known how much can be foreseen, and what models make of them."""
