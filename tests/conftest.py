import pytest

from sim.registry import make_env
from sim.so101.pick_place import PickPlace
from tests.small_checkpoints import save_small_act


@pytest.fixture(scope="session")
def blind_env() -> PickPlace:
    """The default environment, shared; it observes no camera."""
    return make_env("so101/pick_place", image_sizes={})


@pytest.fixture(scope="session")
def small_act(tmp_path_factory):
    """A folder with a small ACT of random weights for so101/pick_place."""
    return save_small_act(tmp_path_factory.mktemp("checkpoints") / "small_act")


@pytest.fixture(scope="session")
def small_act_ensembling(tmp_path_factory):
    """The same with temporal ensembling on."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small_act_ensembling"
    return save_small_act(folder, n_action_steps=1, temporal_ensemble_coeff=0.01)
