"""The protocols of policy servers: what their messages have around an observation and a plan.

    openpi    the observation is the request, and the reply has the plan
    starvla   an observation is one of several examples, its images are a list, and a reply says to
              which request it belongs
    gr00t     all arrays begin with an axis of episodes and one of time, and a plan is a map with an
              array for each part of an action

Sources: openpi, websocket_policy_server.py; starVLA 0ed0aad, deployment/model_server/tools/
websocket_policy_server.py; Isaac-GR00T N1.6, gr00t/policy/gr00t_policy.py.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from policies.remote.server_link import describe_error

Name = Literal["openpi", "starvla", "gr00t"]
NAMES: tuple[Name, ...] = get_args(Name)
_IMAGE = "image"


class ReplyError(ValueError):
    """A reply holds no plan; the message completes the sentence "got ..."."""


class Openpi:
    """openpi's protocol, in which the others say what they have otherwise."""

    # An array of actions begins with an axis of episodes, of which there is one.
    has_episode_axis = False
    takes_options = False

    def check_image_key(self, key: tuple[str, ...]) -> None:
        """Raise ValueError for an image that cannot be sent under such a key."""

    def write_image(self, image: np.ndarray) -> np.ndarray:
        return image

    def write_state(self, part: np.ndarray) -> np.ndarray:
        return part

    def write_prompt(self, instruction: str, key: tuple[str, ...]) -> Any:
        return instruction

    def make_request(
        self,
        observation: dict[str, Any],
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the request for a plan.

        Args:
            observation: the parts that the functions above wrote, under the keys of a wire.
            options: further arguments of the server's policy.
        """
        return observation

    def read_plan(self, reply: Any) -> Mapping[str, Any]:
        """Return the map that holds the actions of a reply.

        Raises:
            ReplyError: there is none.
        """
        return reply


class StarVla(Openpi):
    """The protocol of starVLA's websocket server, whose messages are packed as openpi's."""

    has_episode_axis = True
    takes_options = True

    def __init__(self) -> None:
        self._n_requests = 0

    def check_image_key(self, key: tuple[str, ...]) -> None:
        if key[:1] != (_IMAGE,) or len(key) != 2:
            raise ValueError(f"an image under {list(key)}, not under ['{_IMAGE}', <its name>]")

    def write_state(self, part: np.ndarray) -> np.ndarray:
        return part[None]

    def make_request(
        self,
        observation: dict[str, Any],
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        self._n_requests += 1
        images = list(observation.get(_IMAGE, {}).values())
        payload = {"examples": [observation | {_IMAGE: images}], **options}
        return {"type": "infer", "request_id": self._request_id, "payload": payload}

    def read_plan(self, reply: Any) -> Mapping[str, Any]:
        if reply.get("ok") is not True:
            error = reply.get("error")
            said = error.get("message") if isinstance(error, dict) else error
            raise ReplyError(f"an error of the server: {describe_error(said)}")
        if reply.get("request_id") != self._request_id:
            raise ReplyError(f"one to another request: {describe_error(reply.get('request_id'))}")
        plan = reply.get("data")
        if not isinstance(plan, dict):
            raise ReplyError("one without data")
        return plan

    @property
    def _request_id(self) -> str:
        return str(self._n_requests)


class Gr00t(Openpi):
    """The protocol of GR00T's server, since N1.6."""

    has_episode_axis = True
    takes_options = True

    def write_image(self, image: np.ndarray) -> np.ndarray:
        return image[None, None]

    def write_state(self, part: np.ndarray) -> np.ndarray:
        return part[None, None]

    def write_prompt(self, instruction: str, key: tuple[str, ...]) -> list:
        """Return the instruction of one episode; at one time, where there are maps of modalities.

        A server with `--use-sim-policy-wrapper` has one map, without an axis of time for texts.
        """
        return [[instruction]] if len(key) > 1 else [instruction]

    def make_request(
        self,
        observation: dict[str, Any],
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        content = {"observation": observation, "options": dict(options) or None}
        return {"endpoint": "get_action", "data": content}

    def read_plan(self, reply: Any) -> Mapping[str, Any]:
        match reply:
            case [dict(plan), *_]:
                return plan
        raise ReplyError(f"a {type(reply).__name__} that does not begin with a map")


def make_protocol(name: Name) -> Openpi:
    """Return the protocol of a name, for one connection."""
    kinds: dict[Name, type[Openpi]] = {"openpi": Openpi, "starvla": StarVla, "gr00t": Gr00t}
    return kinds[name]()
