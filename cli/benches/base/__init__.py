"""What the benches are made of: figures, sizes, stacks that run for a while, and what is measured on them."""
