"""Train the shipped checkpoints: one recipe each, as data, and one training loop for all."""
