"""How the shipped checkpoints were trained: each recipe is a module that is run."""
