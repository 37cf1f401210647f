"""Record the loss of a training as rows of JSON, and draw it."""

import json
from collections.abc import Mapping
from pathlib import Path

LOSS_FILE = "loss.jsonl"
LOSS_PICTURE = "loss.png"


class LossRecord:
    """Appends rows to the record, and draws all of them."""

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        """Open the record of a training.

        Args:
            folder: folder of the training.
            first_step: the step to resume from. Later rows, from before the training was stopped,
                are dropped.
        """
        self._path = folder / LOSS_FILE
        self._picture = folder / LOSS_PICTURE
        rows = read_losses(self._path) if first_step else []
        kept = [row for row in rows if row["step"] <= first_step]
        lines = [json.dumps(row) + "\n" for row in kept]
        self._path.write_text("".join(lines), encoding="utf-8")

    def add(self, row: Mapping[str, int | float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def draw(self) -> None:
        """Write the picture: both losses over the samples seen, on a logarithmic axis."""
        from matplotlib.figure import Figure

        rows = read_losses(self._path)
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        samples = [row["samples"] for row in rows]
        labels = {"action_loss": "actions", "position_loss": "position of the block (auxiliary)"}
        for key, label in labels.items():
            losses = [row[key] for row in rows]
            axes.plot(samples, losses, label=label, linewidth=1.5)
        axes.set(xlabel="training samples", ylabel="loss, mean of a hundred steps", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(self._picture, dpi=120)


def read_losses(path: Path) -> list[dict]:
    """Return the rows of a record; [] if there is none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
