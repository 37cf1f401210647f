"""Adapts recorded observations to a policy: its camera names and its image sizes."""

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np

from cknna.observation_windows import ObservationWindow
from policies.policy import EpisodeMemory, PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.observation import Observation


class ObservationAdapter:
    """Gives the observations of a recording to a policy under its own names and at its sizes.

    Attributes:
        resized: camera → "height x width" as recorded and as shown, if they differ.
    """

    def __init__(
        self,
        spec: PolicySpec,
        camera_map: Mapping[str, str],
        recorded: Observation,
    ) -> None:
        """Match the policy's inputs with those of a recorded observation.

        Raises:
            WhiskerError: a camera is missing, or the state has another length.
        """
        recorded_names = {policy: env for env, policy in camera_map.items()}
        self._spec = spec
        self._recorded_name = {}
        for name in spec.image_sizes:
            self._recorded_name[name] = recorded_names.get(name, name)
        _check_cameras(spec, self._recorded_name, recorded)
        _check_state(spec, recorded)
        self.resized = {}
        for camera, (height, width) in spec.image_sizes.items():
            image = recorded.images[self._recorded_name[camera]]
            recorded_height, recorded_width = image.shape[:2]
            if (recorded_height, recorded_width) != (height, width):
                before = f"{recorded_height} x {recorded_width}"
                self.resized[camera] = f"{before} shown as {height} x {width}"

    def make_memory(self, window: ObservationWindow) -> EpisodeMemory:
        """Return the memory of a policy that has observed this window."""
        observations = [self._adapt(recorded.observation) for recorded in window.observations]
        return make_memory(*observations, n_obs_steps=self._spec.n_obs_steps)

    def _adapt(self, recorded: Observation) -> Observation:
        images = {}
        for camera, (height, width) in self._spec.image_sizes.items():
            image = recorded.images[self._recorded_name[camera]]
            if image.shape[:2] != (height, width):
                image = _resize(image, height, width)
            images[camera] = image
        return replace(recorded, images=images)


def _resize(
    image: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    shrinks = image.shape[0] > height
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _check_cameras(
    spec: PolicySpec,
    recorded_name: Mapping[str, str],
    recorded: Observation,
) -> None:
    if all(name in recorded.images for name in recorded_name.values()):
        return
    found = ", ".join(recorded.images) or "none"
    raise WhiskerError(
        f"cameras of policy {spec.type!r} ({spec.checkpoint})",
        expected=", ".join(spec.image_sizes),
        got=f"{found} in the recording",
        hint="Say which is which with --camera-map recorded=policy.",
    )


def _check_state(spec: PolicySpec, recorded: Observation) -> None:
    if spec.state_dim in (None, len(recorded.state)):
        return
    raise WhiskerError(
        f"state of policy {spec.type!r} ({spec.checkpoint})",
        expected=f"{spec.state_dim} numbers",
        got=f"{len(recorded.state)} in the recording",
        hint="The recording is of another robot.",
    )
