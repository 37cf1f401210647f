"""Imports what loads a checkpoint, as the command does.

The process that workers are forked from imports this module, and so they need not.
"""

from policies.lean_lerobot import lean_lerobot

with lean_lerobot():
    import policies.lerobot_loading  # noqa: F401
