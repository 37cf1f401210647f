"""Simulated environments: scenes, tasks, cameras, snapshots and scripted experts.

Importing this package chooses the OpenGL backend, because MuJoCo reads `MUJOCO_GL` once, at import.
"""

from sim.gl import choose_gl_backend

choose_gl_backend()
