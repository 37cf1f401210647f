"""Maps the keys of MuJoCo's window to a position in an episode and to what is drawn."""

from dataclasses import dataclass, replace
from enum import IntEnum

from viz.overlay_style import LAYERS, TRAILS


class Key(IntEnum):
    """Numbers of the keys in GLFW.

    Letters are the window's own switches, and its callback receives no modifier such as SHIFT.
    """

    SPACE = 32
    COMMA = 44
    PERIOD = 46
    RIGHT = 262
    LEFT = 263
    DOWN = 264
    UP = 265
    PAGE_UP = 266
    PAGE_DOWN = 267
    HOME = 268
    END = 269
    F9 = 298
    F10 = 299
    F11 = 300


HELP = (
    ("SPACE", "pause or resume"),
    ("LEFT, RIGHT", "one step"),
    ("PAGE UP, PAGE DOWN", "one prediction"),
    ("HOME, END", "first, last step"),
    ("UP, DOWN", "previous, next episode"),
    (", and .", "slower, faster"),
    ("F9, F10", f"{LAYERS['ghosts'].label}, {LAYERS['alternatives'].label}"),
    ("F11", "a longer trail"),
)
_MIN_SPEED = 1 / 8
_MAX_SPEED = 8.0


@dataclass(frozen=True)
class Playhead:
    """Holds the position of the window in an episode, and what is drawn.

    Attributes:
        n_steps: number of control steps of the episode.
        prediction_step: control steps of its predictions.
        step: the current control step.
        playing: the episode is playing.
        speed: simulated time per real time.
        ghosts: draw the earlier plans.
        alternatives: draw the alternatives.
        trail: the choice of `TRAILS` for the drawn part of the path taken.
        other_episode: number of episodes to move on by; 0 stays.
    """

    n_steps: int
    prediction_step: tuple[int, ...]
    step: int = 0
    playing: bool = False
    speed: float = 1.0
    ghosts: bool = True
    alternatives: bool = True
    trail: int = TRAILS[0]
    other_episode: int = 0

    def press(self, key: int) -> "Playhead":
        """Return the playhead after a key. Unknown keys change nothing."""
        step = self._find_target(key)
        if step is not None:
            return self.seek(step)
        match key:
            case Key.SPACE if self.step == self.n_steps:
                return replace(self, playing=True, step=0)
            case Key.SPACE:
                return replace(self, playing=not self.playing)
            case Key.UP:
                return replace(self, other_episode=-1)
            case Key.DOWN:
                return replace(self, other_episode=1)
            case Key.COMMA:
                return replace(self, speed=max(_MIN_SPEED, self.speed / 2))
            case Key.PERIOD:
                return replace(self, speed=min(_MAX_SPEED, self.speed * 2))
            case Key.F9:
                return replace(self, ghosts=not self.ghosts)
            case Key.F10:
                return replace(self, alternatives=not self.alternatives)
            case Key.F11:
                nth = TRAILS.index(self.trail) + 1
                return replace(self, trail=TRAILS[nth % len(TRAILS)])
        return self

    def _find_target(self, key: int) -> int | None:
        """Return the step that a key leads to; None if it is not for seeking."""
        match key:
            case Key.RIGHT:
                return self.step + 1
            case Key.LEFT:
                return self.step - 1
            case Key.PAGE_DOWN:
                later = [step for step in self.prediction_step if step > self.step]
                return min(later, default=self.step)
            case Key.PAGE_UP:
                earlier = [step for step in self.prediction_step if step < self.step]
                return max(earlier, default=self.step)
            case Key.HOME:
                return 0
            case Key.END:
                return self.n_steps
        return None

    def seek(self, step: int) -> "Playhead":
        """Return the playhead paused at a step, or at the nearest one of the episode."""
        step = min(self.n_steps, max(0, step))
        return replace(self, step=step, playing=False)

    def play_on(self) -> "Playhead":
        """Return the playhead one step later. It pauses at the end."""
        later = self.seek(self.step + 1)
        return replace(later, playing=later.step < self.n_steps)
