"""Tests draws per row against torch's own global generator, seeded as each row's would be."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import arange, empty, float64, full, ones, zeros
from torch.distributions import Categorical, Normal

from policies.random_draws import PerRowSeededRandom

# Each function draws for n rows and returns a tensor whose leading dimension is a multiple of n.
# The rows have 3 or 40 numbers, since torch fills tensors of 16 numbers and more in another way.
DRAWS = {
    "randn(2, 3)": lambda n: torch.randn(2 * n, 3),
    "randn((2, 40))": lambda n: torch.randn((2 * n, 40)),
    "randn([1, 40])": lambda n: torch.randn([n, 40]),
    "randn(Size)": lambda n: torch.randn(torch.Size((n, 4, 5))),
    "randn(size=)": lambda n: torch.randn(
        size=(n, 3),
        dtype=float64,
        device="cpu",
    ),
    "randn(7)": lambda n: torch.randn(7 * n),
    "randn bfloat16": lambda n: torch.randn(n, 40, dtype=torch.bfloat16),
    "randn of a device": lambda n: torch.randn(
        (n, 3),
        device=torch.device("cpu"),
        generator=None,
    ),
    "rand(2, 3)": lambda n: torch.rand(2 * n, 3),
    "rand(size=)": lambda n: torch.rand(size=(n, 40), dtype=float64),
    "rand of a device": lambda n: torch.rand(
        n,
        40,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
    ),
    "randn_like": lambda n: torch.randn_like(zeros(n, 40)),
    "randn_like float64": lambda n: torch.randn_like(zeros(n, 3, dtype=float64)),
    "randn_like of another dtype": lambda n: torch.randn_like(zeros(n, 3), dtype=float64),
    "normal(0, 1, size)": lambda n: torch.normal(0.0, 1.0, (n, 40)),
    "normal(mean=, std=, size=)": lambda n: torch.normal(
        mean=2.0, std=3.0, size=(n, 3), dtype=float64, device="cpu"
    ),
    "normal of tensors": lambda n: torch.normal(ones(n, 40), full((n, 40), 2.0)),
    "normal of a mean": lambda n: torch.normal(full((n, 3), 5.0), 2.0),
    "normal of a std": lambda n: torch.normal(1.0, full((n, 3), 2.0)),
    "normal_()": lambda n: empty(n, 40).normal_(),
    "normal_(2, 3)": lambda n: empty(
        n,
        3,
        dtype=float64,
    ).normal_(2.0, 3.0),
    "normal_(mean=, std=)": lambda n: empty(n, 3).normal_(
        mean=2.0,
        std=3.0,
    ),
    "multinomial": lambda n: torch.multinomial(arange(1.0, 21.0).repeat(n, 1), 1),
    "multinomial(input=)": lambda n: torch.multinomial(
        input=ones(n, 20),
        num_samples=1,
    ),
    "multinomial, several tokens a row": lambda n: torch.multinomial(
        ones(4 * n, 20), num_samples=3
    ),
    "multinomial, replaced": lambda n: torch.multinomial(
        ones(n, 2),
        9,
        replacement=True,
    ),
    "Normal.sample": lambda n: Normal(ones(n, 3), 2.0).sample(),
    "Normal.rsample": lambda n: Normal(ones(n, 3), 2.0).rsample(),
    "Categorical.sample": lambda n: Categorical(arange(1.0, 21.0).repeat(n, 1)).sample(),
    "randint(high)": lambda n: torch.randint(1000, size=(5 * n,)),
    "randint(high, size)": lambda n: torch.randint(1000, (5 * n,)),
    "randint(high=)": lambda n: torch.randint(
        high=1000,
        size=(n, 5),
    ),
    "randint(low, high)": lambda n: torch.randint(-1000, 1000, (n, 5)),
    "randint(low=, high=)": lambda n: torch.randint(
        low=-9,
        high=1000,
        size=(n, 5),
        device="cpu",
    ),
    "randint dtype": lambda n: torch.randint(
        0,
        1000,
        (n, 5),
        dtype=torch.int32,
    ),
}
each_draw = pytest.mark.parametrize(
    "draw",
    DRAWS.values(),
    ids=DRAWS,
)


# It compares dtypes, devices, shapes and all numbers.
assert_same = partial(
    torch.testing.assert_close,
    rtol=0,
    atol=0,
)


def rngs(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def served(draw, *seeds):
    """Return the draw of a batch with a row for each of the seeds."""
    with PerRowSeededRandom(rngs(*seeds)):
        return draw(len(seeds))


def alone(draw, *seeds):
    """Return plain draws for one row each, with torch's own generator seeded from the row's."""
    drawn = []
    with torch.random.fork_rng(devices=[]):
        for rng in rngs(*seeds):
            torch.manual_seed(int(rng.integers(2**63)))
            drawn.append(draw(1))
    return torch.cat(drawn)


@each_draw
def test_a_batch_of_one_draws_what_torch_draws_bit_for_bit(draw):
    for seed in range(5):
        assert_same(served(draw, seed), alone(draw, seed))


@each_draw
def test_a_batch_of_three_draws_what_its_rows_draw_alone(draw):
    assert_same(
        served(
            draw,
            11,
            12,
            13,
        ),
        alone(
            draw,
            11,
            12,
            13,
        ),
    )


@each_draw
def test_the_global_generator_is_neither_read_nor_moved(draw):
    drawn = []
    with torch.random.fork_rng(devices=[]):
        for global_seed in (1, 2):
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            drawn.append(served(draw, 5, 6))
            assert torch.equal(before, torch.get_rng_state())
    assert_same(*drawn)


def test_draws_follow_one_another_as_torchs_do():
    """A second call continues where the first ended.

    Draws with rows of another length in between change no other row.
    """

    def several(n):
        draws = [
            torch.randn(n, 40),
            torch.randn(n, 3),
            torch.multinomial(ones(n, 50), 4),
        ]
        return torch.cat(draws, dim=1)

    assert_same(
        served(
            several,
            1,
            2,
            3,
        ),
        alone(
            several,
            1,
            2,
            3,
        ),
    )


def test_weights_belong_to_their_row():
    """Every row draws with its own weights.

    The weights allow one token per row, and it differs from row to row.
    """
    with PerRowSeededRandom(rngs(1, 2, 3)):
        tokens = torch.multinomial(torch.eye(6), 1)
    assert tokens.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_normal_in_place_is_in_place():
    tensor = empty(2, 3)
    assert served(lambda n: tensor.normal_(), 1, 2) is tensor


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.randn(4, 3),
        lambda n: torch.randn_like(zeros(2, 3)),
        lambda n: torch.normal(0.0, 1.0, size=(7, 1)),
        lambda n: empty(5).normal_(),
        lambda n: torch.multinomial(ones(4, 20), 1),
        lambda n: torch.multinomial(ones(9), 1),  # one distribution
        lambda n: torch.randint(0, 5, size=(2,)),
        lambda n: torch.randn(()),
        lambda n: torch.rand(4, 3),
    ],
)
def test_a_draw_that_does_not_divide_among_the_episodes_is_an_error(draw):
    with pytest.raises(RuntimeError, match="does not divide among 3 episodes"):
        served(draw, 1, 2, 3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rand_like", [zeros(3)]),
        ("randint_like", [zeros(3), 5]),
        ("randperm", [3]),
        ("bernoulli", [full((3,), 0.5)]),
    ],
)
def test_what_is_not_served_is_refused_by_name(name, arguments):
    with pytest.raises(
        RuntimeError,
        match=rf"torch\.{name} draws from the global generator",
    ):
        served(
            lambda n: getattr(torch, name)(*arguments),
            1,
        )
    getattr(torch, name)(*arguments)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: empty(3).uniform_(),
        lambda n: empty(3).bernoulli_(0.5),
        lambda n: empty(3).exponential_(),
        lambda n: empty(3).random_(),
        lambda n: full((3,), 0.5).bernoulli(),
        lambda n: ones(1, 20).multinomial(1),
        lambda n: torch.nn.functional.dropout(ones(9), training=True),
    ],
)
def test_a_tensors_own_draw_is_served_or_refused(draw):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            served(draw, 1)
        except RuntimeError:
            return
        assert torch.equal(before, torch.get_rng_state())


def test_afterwards_torch_draws_as_ever():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = torch.randn(5)
        torch.manual_seed(3)
        with pytest.raises(ZeroDivisionError), PerRowSeededRandom(rngs(1)):
            raise ZeroDivisionError
        assert_same(torch.randn(5), plain)


def test_seeds_come_from_the_episodes_generator_once_each():
    """A row takes one seed from its episode's generator.

    Other draws of the episode from the same generator then do not shift.
    """
    ours, theirs = rngs(1, 1)
    with PerRowSeededRandom([ours]):
        torch.randn(100)
        torch.randn(100)
    theirs.integers(2**63)
    assert ours.bit_generator.state == theirs.bit_generator.state
