"""Rollouts, outcomes, run folders, statistics, and the `eval` command.

Import from it as `from eval.x import y`: a plain `import eval` would shadow the builtin.
"""
