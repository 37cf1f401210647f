"""Checks of image size and field of view against the training's."""

from collections.abc import Iterator, Mapping

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from policies.adapters import format_image_size
from policies.training_record import TrainingRecord
from sim.registry import family_of

# An angle that differs by more than this is another camera's.
_SAME_ANGLE_DEG = 1.0


def check_image_sizes(context: CheckContext) -> Iterator[Finding]:
    """Compare the size and the angle at which each camera is rendered with the training's, as far as they are known."""
    training = context.setup.training or TrainingRecord()
    yield from _check_sizes(context, training)
    yield from _check_angles(context, training)
    if training.dataset:
        how = (
            f"augmented by {', '.join(training.augmentations)}"
            if training.augmentations
            else "not augmented"
        )
        yield Finding(
            "training images",
            Level.OK,
            f"of dataset {training.dataset!r}, as train_config.json says",
            how,
        )


def _check_sizes(context: CheckContext, training: TrainingRecord) -> Iterator[Finding]:
    adapters = context.adapters
    shown = {
        adapters.camera_map.get(camera.name, camera.name): (camera.height_px, camera.width_px)
        for camera in context.env.cameras
    }
    trained, source = _trained_sizes(context, training)
    trained = {camera: size for camera, size in trained.items() if camera in shown}
    evidence = f"rendered {_list(shown)}"
    family = family_of(context.env.name)
    if trained:
        evidence += f"; {source} {_list(trained)}"
        if any(shown[camera] != size for camera, size in trained.items()):
            hint = _advise(trained, training)
            finding = "the policy is shown images of another size than in training"
            yield Finding("image sizes", Level.WARNING, finding, evidence, hint)
        else:
            yield Finding("image sizes", Level.OK, "as in training", evidence)
    elif adapters.image_size is not None:
        yield Finding(
            "image sizes",
            Level.UNKNOWN,
            "as --image-size says; the training's are not known",
            evidence,
        )
    elif training.needs_declared_size:
        yield Finding("image sizes", Level.OK, "the size that the network's layers need", evidence)
    elif not training.base:
        yield Finding("image sizes", Level.OK, "the size that config.json declares", evidence)
    elif family.square_images and all(height == width for height, width in shown.values()):
        finding = f"the size that config.json declares, square like {family.title}'s recordings"
        yield Finding("image sizes", Level.OK, finding, evidence)
    else:
        finding = "config.json keeps the image size of the base that was fine-tuned; the training's may be another"
        evidence += f"; base {training.base!r}"
        hint = "Give the size of the training's images, e.g. --image-size 640x480, which most cameras record."
        yield Finding("image sizes", Level.WARNING, finding, evidence, hint)


def _trained_sizes(
    context: CheckContext, training: TrainingRecord
) -> tuple[Mapping[str, tuple[int, int]], str]:
    """Return the policy's camera → (height_px, width_px) in training, and the source of that."""
    if context.training_env is None:
        return training.image_sizes, f"the images of dataset {training.dataset!r}"
    cameras = context.training_env["cameras"]
    sizes = {
        training.renamed.get(c["name"], c["name"]): (c["height_px"], c["width_px"]) for c in cameras
    }
    return sizes, "in training"


def _advise(trained: Mapping[str, tuple[int, int]], training: TrainingRecord) -> str:
    if training.needs_declared_size:
        return "The network takes the declared size alone: it was not trained on these images as they are."
    if len(set(trained.values())) > 1:
        return "Its cameras have sizes of their own, and --image-size gives all of them the same: train on one size."
    return f"Give --image-size {format_image_size(next(iter(trained.values())))}."


def _check_angles(context: CheckContext, training: TrainingRecord) -> Iterator[Finding]:
    evidence = ", ".join(
        f"{camera.name} at {camera.fovy_deg:.0f}°" for camera in context.env.cameras
    )
    if context.training_env is None:
        yield Finding(
            "field of view", Level.UNKNOWN, "its training's angles are not known", evidence
        )
        return
    trained = {camera["name"]: camera for camera in context.training_env["cameras"]}
    adapters = context.adapters
    for camera in context.env.cameras:
        was = trained.get(training.original_name(adapters.camera_map.get(camera.name, camera.name)))
        if was is not None and abs(was["fovy_deg"] - camera.fovy_deg) > _SAME_ANGLE_DEG:
            got = f"{camera.name}: trained at {was['fovy_deg']:.0f}°, here {camera.fovy_deg:.0f}°"
            hint = "Evaluate in the scene of the training, or train on this camera."
            yield Finding(
                "field of view", Level.ERROR, "another field of view than in training", got, hint
            )
    yield Finding("field of view", Level.OK, "compared with the training's", evidence)


def _list(sizes: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{camera} {format_image_size(size)}" for camera, size in sizes.items())
