"""Simulated environments: scenes, tasks, cameras, snapshots and scripted experts.

Importing this package chooses the OpenGL backend and the CPU code path of the numerical libraries.
Both must be chosen first: MuJoCo reads `MUJOCO_GL` once, at import, and OpenBLAS reads its variable
when NumPy is imported.
"""

from sim.cpu_code_path import choose_code_path
from sim.gl import choose_gl_backend

choose_gl_backend()
choose_code_path()
