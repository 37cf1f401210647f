"""The flags that name a policy, which several commands share."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class PolicyConfig:
    """Names a policy and the device that it runs on.

    Attributes:
        name: act, smolvla, pi0, pi05, pi0_fast, xvla, groot, eo1, evo1, vla_jepa, diffusion,
            multi_task_dit, vqbet, tdmpc, sac, open_pi_zero or spatialvla; or
            without a checkpoint: zero and random (lower bounds), scripted (the expert, an upper
            bound), replay (with --demos); remote (behind --server). Or one of your own:
            my_package.my_module:factory, or an entry point of the group whisker.policies. Default:
            the checkpoint's own type, or act.
        checkpoint: a local folder, a hub id, or one that is shipped (act, act-early, smolvla,
            diffusion). Default: the shipped one, or a published one of that type. A factory of your
            own gets it as it is.
        device: cpu, cuda, ... or auto: the GPU if there is one.
        trust_remote_code: run code that the checkpoint brings or names.
        server: address of a policy server of openpi or starVLA, e.g. ws://127.0.0.1:8000, or of
            GR00T, e.g. tcp://127.0.0.1:5555.
        wire: under which keys that server looks for images and state: openpi-libero, openpi-droid,
            openpi-aloha, so101, starvla-libero, gr00t-libero, gr00t-so101, or a TOML file of your
            own (docs/remote.md).
        dtype: float32 (the default) or bfloat16, for open_pi_zero and spatialvla: the
            number format of the network.
    """

    name: Annotated[str | None, arg(name="policy")] = None
    checkpoint: str | None = None
    device: str = "auto"
    trust_remote_code: bool = False
    server: str | None = None
    wire: str | None = None
    dtype: str | None = None
