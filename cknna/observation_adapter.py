"""Adapts recorded observations to a policy: its camera names and its image sizes."""

from collections.abc import Mapping
from dataclasses import replace

import cv2

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
        self._recorded_name = {name: recorded_names.get(name, name) for name in spec.image_sizes}
        subject = f"policy {spec.type!r} ({spec.checkpoint})"
        if not set(self._recorded_name.values()) <= recorded.images.keys():
            raise WhiskerError(
                f"cameras of {subject}",
                expected=", ".join(spec.image_sizes),
                got=f"{', '.join(recorded.images) or 'none'} in the recording",
                hint="Say which is which with --camera-map recorded=policy.",
            )
        if spec.state_dim not in (None, len(recorded.state)):
            raise WhiskerError(
                f"state of {subject}",
                expected=f"{spec.state_dim} numbers",
                got=f"{len(recorded.state)} in the recording",
                hint="The recording is of another robot.",
            )
        self.resized = {}
        for camera, size in spec.image_sizes.items():
            recorded_size = recorded.images[self._recorded_name[camera]].shape[:2]
            if recorded_size != size:
                before, after = (f"{height} x {width}" for height, width in (recorded_size, size))
                self.resized[camera] = f"{before} shown as {after}"

    def make_memory(self, window: ObservationWindow) -> EpisodeMemory:
        """Return the memory of a policy that has observed this window."""
        return make_memory(
            *[self._adapt(recorded.observation) for recorded in window.observations],
            n_obs_steps=self._spec.n_obs_steps,
        )

    def _adapt(self, recorded: Observation) -> Observation:
        images = {}
        for camera, (height, width) in self._spec.image_sizes.items():
            image = recorded.images[self._recorded_name[camera]]
            if image.shape[:2] != (height, width):
                interpolation = cv2.INTER_AREA if (image.shape[0] > height) else cv2.INTER_CUBIC
                image = cv2.resize(image, (width, height), interpolation=interpolation)
            images[camera] = image
        return replace(recorded, images=images)
