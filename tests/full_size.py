"""Measures policies of their published size, with random weights, in processes of their own."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch


def fill(policy):
    """Fill all parameters from N(0, 0.02²).

    One draw is repeated, since drawing 3.5 billion numbers takes minutes.
    """
    draw = 0.02 * torch.randn(2**24 + 1)  # odd, so that rows of a matrix do not repeat
    for parameter in policy.parameters():
        for part in parameter.view(-1).split(len(draw)):
            part.copy_(draw[: len(part)])


def read_peak_gb():
    """Return the peak memory of this process in GB, pages of mapped files included."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 / 1e9


def save_once(save, folder):
    started_s = time.perf_counter()
    torch.set_num_threads(1)
    save(folder)
    return {
        "save s": time.perf_counter() - started_s,
        "peak GB while saving": read_peak_gb(),
    }


def in_own_process(function, *args):
    """Call a function in a new process.

    The peak memory is then of that call alone, and all memory is freed afterwards.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
