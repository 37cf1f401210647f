"""X-VLA in LIBERO, with the processors that `lerobot-eval` gives it there.

Around the checkpoint's own processors, as in `make_xvla_libero_pre_post_processors`:

    state   (20)  position [m], the first two columns of the tool's rotation matrix, eleven zeros
    images        normalised with ImageNet's statistics; only `image` is turned by 180 degrees
    action  (7)   of a plan's first ten numbers: position [m], axis-angle [rad], gripper -1 or 1

lerobot also adds a domain id, which its policy preprocessor drops. So the id is that of the
checkpoint, or 0.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from lerobot.lerobot_types import TransitionKey
from lerobot.policies.xvla.processor_xvla import (
    XVLAImageNetNormalizeProcessorStep,
    XVLARotation6DToAxisAngleProcessorStep,
)
from lerobot.processor.converters import create_transition

from policies.adapters import Adapters
from policies.flow_policies import XVLAPolicy
from sim.errors import WhiskerError
from sim.observation import Observation

_STATE_DIM = 20
_ACTION_DIM = 7
# The camera whose images lerobot turns. LIBERO's environment here turns those of every camera.
_TURNED_CAMERA = "image"


class XVLALiberoPolicy(XVLAPolicy):
    """X-VLA that plans absolute poses for LIBERO.

    Its spec has the widths of LIBERO's state and action.
    """

    def __init__(self, policy: XVLAPolicy, turned_back: Collection[str]) -> None:
        """Take over what a loaded policy consists of.

        Args:
            turned_back: the policy's cameras whose images it knows as OpenGL stores them.

        Raises:
            WhiskerError: the checkpoint normalises a state of another width.
        """
        spec = replace(
            policy.spec,
            state_dim=None,
            action_dim=_ACTION_DIM,
            action_mode="absolute",
            rotation="axis_angle",
        )
        super().__init__(
            policy.network,
            policy._preprocessor,
            policy._postprocessor,
            spec,
            policy._image_keys,
            policy._normalisation,
        )
        self._turned_back = frozenset(turned_back)
        # A checkpoint that lerobot-train saved normalises the images itself. lerobot-eval would
        # normalise them twice, and stops because the second step expects 0..1.
        self._must_normalise_images = not any(
            isinstance(step, XVLAImageNetNormalizeProcessorStep)
            for step in self._preprocessor.steps
        )
        self._check_state()

    @classmethod
    def around(cls, policy: XVLAPolicy, adapters: Adapters) -> "XVLALiberoPolicy":
        """Return a loaded X-VLA for LIBERO, whose cameras the adapters name."""
        cameras = policy.spec.image_sizes
        others = [name for name in cameras if adapters.env_camera(name) != _TURNED_CAMERA]
        return cls(policy, others)

    def _check_state(self) -> None:
        statistics = self._normalisation.state
        affine = statistics.affine if statistics is not None else None
        if affine is not None and len(affine[0]) != _STATE_DIM:
            raise WhiskerError(
                f"state of policy 'xvla' ({self.spec.checkpoint}) in LIBERO",
                expected=f"{_STATE_DIM} numbers, as lerobot-eval gives it",
                got=f"statistics of {len(affine[0])}",
                hint="The checkpoint was trained with other conventions.",
            )

    def _preprocess(self, observations: Sequence[Observation]) -> dict:
        return super()._preprocess([self._convert(observation) for observation in observations])

    def _prepare_images(self, images: torch.Tensor) -> torch.Tensor:
        if not self._must_normalise_images:
            return images
        step = XVLAImageNetNormalizeProcessorStep()
        key = "observation.images.image"
        normalised = step(create_transition(observation={key: images}))
        return normalised[TransitionKey.OBSERVATION][key]

    def _convert(self, observation: Observation) -> Observation:
        images = {
            camera: image[::-1, ::-1] if camera in self._turned_back else image
            for camera, image in observation.images.items()
        }
        return replace(observation, images=images, state=_make_state(observation))

    def _to_env_units(self, chunk: torch.Tensor) -> np.ndarray:
        plans = torch.from_numpy(super()._to_env_units(chunk))
        step = XVLARotation6DToAxisAngleProcessorStep()
        actions = step(create_transition(action=plans.flatten(0, 1)))[TransitionKey.ACTION]
        return actions.unflatten(0, plans.shape[:2]).numpy()


def _make_state(observation: Observation) -> Float32[np.ndarray, "20"]:
    """Return lerobot's state of X-VLA: position, two columns of the rotation, and zeros.

    Raises:
        WhiskerError: the observation does not have the rotation.
    """
    rotation = observation.tool_rotation
    if rotation is None:
        raise WhiskerError(
            "observation for policy 'xvla' in LIBERO",
            expected="the tool's rotation",
            got="none",
            hint="Only LIBERO with --control absolute observes it.",
        )
    state = np.zeros(_STATE_DIM, np.float32)
    state[:3] = observation.state[:3]
    state[3:9] = rotation.T[:2].ravel()
    return state
