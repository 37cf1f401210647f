"""Simulated environments: scenes, tasks, cameras, snapshots and scripted experts.

Importing this package chooses the OpenGL backend (MuJoCo reads `MUJOCO_GL` once, at import) and the
code path of the numerical libraries (OpenBLAS reads its variable when NumPy is imported), which
must be done before these are loaded.
"""

from sim.cpu_code_path import choose_code_path
from sim.gl import choose_gl_backend

choose_gl_backend()
choose_code_path()
