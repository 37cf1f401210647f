"""Measures the time that the doctor adds to the start of `eval --policy act`.

    uv run python -m tests.benchmarks.doctor

It is also shown relative to the rest of the start: importing lerobot, loading the checkpoint and
building the environment in a fresh process.
"""

from statistics import median
from time import perf_counter

from sim.flags import make_config
from tests.benchmarks.measuring import run_python, wall_s

N_PROCESSES = 3
N_EXAMINATIONS = 5


def measure():
    """Print the seconds of the start, then of several examinations; runs in a fresh process."""
    start_s = perf_counter()
    from eval.config import SubjectConfig
    from eval.doctor.diagnosis import run_checks
    from eval.evaluation import set_up

    config = make_config(SubjectConfig, policy="act")
    setup = set_up(config)
    times_s = [perf_counter() - start_s]
    for _ in range(N_EXAMINATIONS):
        times_s.append(wall_s(lambda: run_checks(config, setup)))
    setup.env.close()
    print(*times_s)


def main():
    starts_s = []
    firsts_s = []
    all_s = []
    for _ in range(N_PROCESSES):
        done = run_python("-c", "from tests.benchmarks.doctor import measure; measure()")
        start_s, *examinations_s = map(float, done.printed.split())
        starts_s.append(start_s)
        firsts_s.append(examinations_s[0])
        all_s += examinations_s
    start_s, first_s, any_s = map(median, (starts_s, firsts_s, all_s))
    print(f"start without the doctor {start_s:6.2f} s")
    print(f"doctor, first examination {first_s:5.2f} s  ({first_s / start_s:.2f} of the start)")
    print(f"doctor, warm              {any_s:5.2f} s  ({any_s / start_s:.2f} of the start)")


if __name__ == "__main__":
    main()
