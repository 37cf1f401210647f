"""How the shipped checkpoints were trained: one recipe each, as data, and one training loop for all of them."""
