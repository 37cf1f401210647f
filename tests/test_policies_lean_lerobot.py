"""A lean import of lerobot changes no plan, and what it leaves out comes when it is asked for."""

import json
import subprocess
import sys
from contextlib import nullcontext

import pytest

from policies.lean_lerobot import read_exports
from policies.lerobot_types import LEROBOT_TYPES
from tests.lean_plan import UNUSED_BY_ACT, plan_bytes
from tests.small_checkpoints import shrunken_paligemma

# What another program can see of lerobot: what registered itself, and which names are bound.
CENSUS = """
import json, sys
from lerobot.configs.policies import PreTrainedConfig
from lerobot.processor.pipeline import ProcessorStepRegistry

names = {}
for module in [name for name in sys.modules if name.startswith("lerobot.")]:
    names[module] = sorted(key for key, value in vars(sys.modules[module]).items()
                           if value is not None and not key.startswith("_"))
print(json.dumps({
    "types": sorted(PreTrainedConfig.get_known_choices()),
    "steps": sorted(ProcessorStepRegistry.list()),
    "names": names,
}))
"""
LEAN = "from policies.lean_lerobot import lean_lerobot, load_all\n"
OWN_MODULE = "import policies.lerobot_loading\n"


def run(*arguments):
    printed = subprocess.check_output([sys.executable, *arguments], text=True)
    return json.loads(printed.splitlines()[-1])


@pytest.fixture(scope="module")
def ordinary():
    """Return the census of a process that imports lerobot as it comes."""
    return run("-c", f"import lerobot.policies\n{OWN_MODULE}{CENSUS}")


def test_a_rollout_of_act_imports_only_what_it_uses():
    planned = run("-m", "tests.lean_plan", "act", "act")
    assert planned["imported"] == []
    assert planned["plan"] == plan_bytes("act", "act")
    # The list names packages that lerobot brings: this process has imported it as it comes.
    assert [name for name in UNUSED_BY_ACT if name not in sys.modules] == []


@pytest.mark.slow
@pytest.mark.parametrize("policy_type", ["diffusion", "smolvla"])
def test_what_another_type_uses_is_imported_and_plans_the_same(policy_type):
    planned = run("-m", "tests.lean_plan", policy_type, policy_type)
    assert planned["plan"] == plan_bytes(policy_type, policy_type)


@pytest.mark.slow
@pytest.mark.parametrize("policy_type", sorted(LEROBOT_TYPES))
def test_every_type_plans_the_same(policy_type, small_checkpoint):
    folder = small_checkpoint(policy_type)
    shrunken = shrunken_paligemma if policy_type.startswith("pi0") else nullcontext
    planned = run("-m", "tests.lean_plan", policy_type, str(folder))
    assert planned["plan"] == plan_bytes(policy_type, folder, shrunken)


@pytest.mark.slow
def test_nothing_is_missing_once_all_is_loaded(ordinary):
    lean = run("-c", f"{LEAN}with lean_lerobot():\n    {OWN_MODULE}{CENSUS}")
    for registry in ("types", "steps"):
        assert set(lean[registry]) < set(ordinary[registry])
    whole = run("-c", f"{LEAN}with lean_lerobot():\n    {OWN_MODULE}load_all()\n{CENSUS}")
    assert whole["types"] == ordinary["types"]
    assert whole["steps"] == ordinary["steps"]
    assert set(ordinary["names"]) <= set(whole["names"])
    for module, names in ordinary["names"].items():
        assert set(names) - set(whole["names"][module]) == set(), module


@pytest.mark.slow
def test_a_policy_of_ones_own_finds_all_of_lerobot(tmp_path):
    """It is loaded after a lean import, as the viewer does that shows two runs."""
    (tmp_path / "own.py").write_text(
        "from lerobot.policies.pretrained import get_peft_model\n"
        "from lerobot.processor import ProcessorStepRegistry\n"
        "def make(*, env, checkpoint, device):\n"
        "    assert get_peft_model is not None\n"
        "    ProcessorStepRegistry.get('tokenizer_processor')\n"
        "    raise SystemExit('reached')\n"
    )
    code = (
        "import os, sys\n"
        "from policies.loading import load_policy\n"
        "from sim.registry import make_env\n"
        "load_policy('act', device='cpu')\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "load_policy('own:make', make_env('so101/pick_place', {}), device='cpu')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.stderr.splitlines()[-1] == "reached"


@pytest.mark.slow
def test_what_torchvision_takes_from_the_compiler_comes_when_it_is_called():
    """The regions of a feature map are pooled as after an ordinary import."""
    code = (
        "import json, sys, torch\n"
        "from torchvision.ops.roi_align import is_compile_supported, roi_align\n"
        "has_compiler = 'torch._dynamo' in sys.modules\n"
        "torch.use_deterministic_algorithms(True)\n"
        "image = torch.arange(48.0).reshape(1, 3, 4, 4)\n"
        "pooled = roi_align(image, [torch.tensor([[0.0, 0.0, 3.0, 2.0]])], 2).tolist()\n"
        "print(json.dumps([has_compiler, pooled, is_compile_supported('cpu')]))\n"
    )
    has_compiler, *ordinary = run("-c", code)
    assert has_compiler
    assert run("-c", f"{LEAN}with lean_lerobot():\n    pass\n{code}") == [False, *ordinary]


def test_an_init_that_only_re_exports_is_a_table():
    source = (
        '"""Words."""\n'
        "from lerobot.kinds import Kind\n"
        "from .first import one as uno, two\n"
        '__all__ = ["Kind", "uno", "two"]\n'
    )
    assert read_exports(source, "lerobot.part") == {
        "Kind": ("lerobot.kinds", "Kind"),
        "uno": ("lerobot.part.first", "one"),
        "two": ("lerobot.part.first", "two"),
    }


@pytest.mark.parametrize(
    "source",
    [
        "from .first import *\n",
        "from .first import first\n",  # the submodule has the same name
        "from . import first\n",
        "from ..first import one\n",
        "import os\n",
        "from .first import register\nregister()\n",
        "if True:\n    from .first import one\n",
    ],
)
def test_an_init_that_does_more_runs_as_it_is(source):
    assert read_exports(source, "lerobot.part") is None
