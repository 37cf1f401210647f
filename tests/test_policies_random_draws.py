"""Tests draws per row against torch's own global generator, seeded as each row's would be."""

from contextlib import suppress

import numpy as np
import pytest
import torch

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
        dtype=torch.float64,
        device="cpu",
    ),
    "randn(7)": lambda n: torch.randn(7 * n),
    "randn bfloat16": lambda n: torch.randn(n, 40, dtype=torch.bfloat16),
    "randn of a device": lambda n: torch.randn(
        (n, 3),
        device=torch.device("cpu"),
        generator=None,
    ),
    "randn_like": lambda n: torch.randn_like(torch.zeros(n, 40)),
    "randn_like float64": lambda n: torch.randn_like(torch.zeros(n, 3, dtype=torch.float64)),
    "randn_like of another dtype": lambda n: torch.randn_like(
        torch.zeros(n, 3), dtype=torch.float64
    ),
    "normal(0, 1, size)": lambda n: torch.normal(0.0, 1.0, (n, 40)),
    "normal(mean=, std=, size=)": lambda n: torch.normal(
        mean=2.0, std=3.0, size=(n, 3), dtype=torch.float64, device="cpu"
    ),
    "normal of tensors": lambda n: torch.normal(torch.full((n, 40), 5.0), torch.full((n, 40), 2.0)),
    "normal of a mean": lambda n: torch.normal(torch.full((n, 3), 5.0), 2.0),
    "normal_()": lambda n: torch.empty(n, 40).normal_(),
    "normal_(2, 3)": lambda n: torch.empty(n, 3, dtype=torch.float64).normal_(2.0, 3.0),
    "normal_(mean=, std=)": lambda n: torch.empty(n, 3).normal_(
        mean=2.0,
        std=3.0,
    ),
    "multinomial": lambda n: torch.multinomial(
        torch.arange(1.0, 21.0).repeat(n, 1),
        1,
    ),
    "multinomial, several tokens a row": lambda n: torch.multinomial(
        torch.ones(4 * n, 20), num_samples=3
    ),
    "multinomial, replaced": lambda n: torch.multinomial(torch.ones(n, 2), 9, replacement=True),
    "Normal.sample": lambda n: torch.distributions.Normal(
        torch.ones(n, 3), torch.full((n, 3), 2.0)
    ).sample(),
    "Normal.rsample": lambda n: torch.distributions.Normal(
        torch.ones(n, 3), torch.full((n, 3), 2.0)
    ).rsample(),
    "Categorical.sample": lambda n: torch.distributions.Categorical(
        torch.arange(1.0, 21.0).repeat(n, 1)
    ).sample(),
    "randint(high)": lambda n: torch.randint(1000, size=(5 * n,)),
    "randint(low, high)": lambda n: torch.randint(-1000, 1000, (n, 5)),
    "randint(low=, high=)": lambda n: torch.randint(
        low=-1000, high=1000, size=(n, 5), device="cpu"
    ),
}
each_draw = pytest.mark.parametrize(
    "draw",
    DRAWS.values(),
    ids=DRAWS.keys(),
)


def rngs(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def alone(draw, rng):
    """Return one plain draw, with torch's global generator seeded from the row's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        return draw(1)


def assert_same(ours, theirs):
    assert (
        ours.dtype == theirs.dtype and ours.device == theirs.device and ours.shape == theirs.shape
    )
    assert torch.equal(ours, theirs)


@each_draw
def test_a_batch_of_one_draws_what_torch_draws_bit_for_bit(draw):
    for seed in range(5):
        with PerRowSeededRandom(rngs(seed)):
            ours = draw(1)
        assert_same(ours, alone(draw, *rngs(seed)))


@each_draw
def test_a_batch_of_three_draws_what_its_rows_draw_alone(draw):
    with PerRowSeededRandom(rngs(11, 12, 13)):
        batch = draw(3)
    assert_same(
        batch,
        torch.cat([alone(draw, rng) for rng in rngs(11, 12, 13)]),
    )


@each_draw
def test_other_generators_other_numbers(draw):
    drawn = []
    for seed in range(5):
        with PerRowSeededRandom(rngs(seed)):
            drawn.append(draw(1))
    # One of twenty tokens can be drawn twice, but not five times.
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])


@each_draw
def test_the_global_generator_is_neither_read_nor_moved(draw):
    drawn = []
    with torch.random.fork_rng(devices=[]):
        for global_seed in (1, 2):
            torch.manual_seed(global_seed)
            before = torch.get_rng_state()
            with PerRowSeededRandom(rngs(5, 6)):
                drawn.append(draw(2))
            assert torch.equal(before, torch.get_rng_state())
    assert_same(*drawn)


def test_draws_follow_one_another_as_torchs_do():
    """A second call continues where the first ended.

    Draws with rows of another length in between change no other row.
    """

    def several(n):
        return torch.cat(
            [
                torch.randn(n, 40),
                torch.randn(n, 3),
                torch.multinomial(torch.ones(n, 50), 4),
            ],
            dim=1,
        )

    with PerRowSeededRandom(rngs(1, 2, 3)):
        batch = several(3)
    assert_same(
        batch,
        torch.cat([alone(several, rng) for rng in rngs(1, 2, 3)]),
    )


def test_weights_belong_to_their_row():
    """Every row draws with its own weights.

    The weights allow one token per row, and it differs from row to row.
    """
    with PerRowSeededRandom(rngs(1, 2, 3)):
        tokens = torch.multinomial(torch.eye(6), 1)
    assert tokens.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_normal_in_place_is_in_place():
    tensor = torch.empty(2, 3)
    with PerRowSeededRandom(rngs(1, 2)):
        assert tensor.normal_() is tensor
    assert_same(
        tensor,
        torch.cat([alone(lambda n: torch.randn(n, 3), rng) for rng in rngs(1, 2)]),
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.randn(4, 3),
        lambda: torch.randn_like(torch.zeros(2, 3)),
        lambda: torch.normal(0.0, 1.0, size=(7, 1)),
        lambda: torch.empty(5).normal_(),
        lambda: torch.multinomial(torch.ones(4, 20), 1),
        lambda: torch.randint(0, 5, size=(2,)),
        lambda: torch.randn(()),
    ],
)
def test_a_draw_that_does_not_divide_among_the_episodes_is_an_error(draw):
    with (
        PerRowSeededRandom(rngs(1, 2, 3)),
        pytest.raises(RuntimeError, match="does not divide among 3 episodes"),
    ):
        draw()


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("rand", lambda: torch.rand(3)),
        ("rand_like", lambda: torch.rand_like(torch.zeros(3))),
        ("randint_like", lambda: torch.randint_like(torch.zeros(3), 5)),
        ("randperm", lambda: torch.randperm(3)),
        ("bernoulli", lambda: torch.bernoulli(torch.full((3,), 0.5))),
    ],
)
def test_what_is_not_served_is_refused_by_name(name, draw):
    with (
        PerRowSeededRandom(rngs(1)),
        pytest.raises(
            RuntimeError,
            match=rf"torch\.{name} draws from the global generator",
        ),
    ):
        draw()
    draw()


def leaves_the_global_generator(draw):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        with PerRowSeededRandom(rngs(1)):
            draw()
        return torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.empty(3).uniform_(),
        lambda: torch.empty(3).bernoulli_(0.5),
        lambda: torch.empty(3).exponential_(),
        lambda: torch.empty(3).random_(),
        lambda: torch.full((3,), 0.5).bernoulli(),
        lambda: torch.ones(1, 20).multinomial(1),
        lambda: torch.nn.functional.dropout(torch.ones(9), training=True),
    ],
    ids=[
        "uniform_",
        "bernoulli_",
        "exponential_",
        "random_",
        "Tensor.bernoulli",
        "Tensor.multinomial",
        "dropout",
    ],
)
def test_a_tensors_own_draw_is_served_or_refused(draw):
    with suppress(RuntimeError):
        assert leaves_the_global_generator(draw)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.randint(1000, (5 * n,)),
        lambda n: torch.randint(
            high=1000,
            size=(n, 5),
        ),
        lambda n: torch.randint(
            0,
            1000,
            (n, 5),
            dtype=torch.int32,
        ),
        lambda n: torch.multinomial(
            input=torch.ones(n, 20),
            num_samples=1,
        ),
        lambda n: torch.normal(1.0, torch.full((n, 3), 2.0)),
    ],
    ids=[
        "randint(high, size)",
        "randint(high=)",
        "randint dtype",
        "multinomial(input=)",
        "normal of a std",
    ],
)
def test_other_ways_of_calling(draw):
    with PerRowSeededRandom(rngs(7)):
        ours = draw(1)
    assert_same(ours, alone(draw, *rngs(7)))


def test_one_distribution_is_not_split_among_two_episodes():
    with PerRowSeededRandom(rngs(1, 2)), pytest.raises(RuntimeError, match="does not divide"):
        torch.multinomial(torch.ones(10), 1)


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
