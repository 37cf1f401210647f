"""Checks that the images have the size and the field of view of the training."""

from collections.abc import Mapping

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Findings, fail, fine, unknown, warn
from policies.adapters import format_image_size
from policies.training_record import TrainingRecord
from sim.registry import family_of

# Angles that differ by more than this are those of different cameras.
_SAME_ANGLE_DEG = 1.0

type Sizes = Mapping[str, tuple[int, int]]


def check_image_sizes(context: CheckContext) -> Findings:
    """Compare the size and the field of view of each camera with the training's, if known."""
    yield from _check_sizes(context)
    yield from _check_angles(context)
    training = context.training
    if training.dataset:
        finding = f"of dataset {training.dataset!r}, as train_config.json says"
        evidence = "not augmented"
        if training.augmentations:
            evidence = f"augmented by {', '.join(training.augmentations)}"
        yield fine("training images", finding, evidence)


def _check_sizes(context: CheckContext) -> Findings:
    adapters = context.adapters
    training = context.training
    rendered = {
        adapters.camera_map.get(camera.name, camera.name): (camera.height_px, camera.width_px)
        for camera in context.env.cameras
    }
    trained, source = _trained_sizes(context)
    trained = {camera: size for camera, size in trained.items() if camera in rendered}
    evidence = f"rendered {_list(rendered)}"
    if trained:
        evidence += f"; {source} {_list(trained)}"
        if all(rendered[camera] == size for camera, size in trained.items()):
            yield fine("image sizes", "as in training", evidence)
        else:
            yield warn(
                "image sizes",
                "the policy observes images of another size than in training",
                evidence,
                _advise(trained, training),
            )
    elif adapters.image_size is not None:
        yield unknown(
            "image sizes",
            "as --image-size says; the training's are not known",
            evidence,
        )
    elif training.needs_declared_size:
        yield fine("image sizes", "the size that the network's layers need", evidence)
    elif not training.base:
        yield fine("image sizes", "the size that config.json declares", evidence)
    else:
        yield _judge_size_of_base(context, rendered, training.base, evidence)


def _judge_size_of_base(
    context: CheckContext,
    rendered: Sizes,
    base: str,
    evidence: str,
) -> Finding:
    """Judge the size of a fine-tuned checkpoint whose config.json repeats the base's size."""
    family = family_of(context.env.name)
    is_square = all(height == width for height, width in rendered.values())
    if family.square_images and is_square:
        return fine(
            "image sizes",
            f"the size that config.json declares, square like {family.title}'s recordings",
            evidence,
        )
    return warn(
        "image sizes",
        (
            "config.json keeps the image size of the base that was fine-tuned; "
            "the training may have used another"
        ),
        f"{evidence}; base {base!r}",
        (
            "Give the size of the training's images, e.g. --image-size 640x480, "
            "which most cameras record."
        ),
    )


def _trained_sizes(context: CheckContext) -> tuple[Sizes, str]:
    """Return the policy's camera → (height_px, width_px) in training, and the source of that."""
    training = context.training
    if context.training_env is None:
        return training.image_sizes, f"the images of dataset {training.dataset!r}"
    sizes = {}
    for camera in context.training_env["cameras"]:
        name = training.renamed.get(camera["name"], camera["name"])
        sizes[name] = (camera["height_px"], camera["width_px"])
    return sizes, "in training"


def _advise(trained: Sizes, training: TrainingRecord) -> str:
    if training.needs_declared_size:
        return (
            "The network accepts only the declared size, "
            "so it was not trained on these images as they are."
        )
    sizes = list(trained.values())
    if len(set(sizes)) > 1:
        return (
            "Its cameras have different sizes, and --image-size gives all of them the same: "
            "train on one size."
        )
    return f"Give --image-size {format_image_size(sizes[0])}."


def _check_angles(context: CheckContext) -> Findings:
    cameras = context.env.cameras
    evidence = ", ".join(f"{camera.name} at {camera.fovy_deg:.0f}°" for camera in cameras)
    if context.training_env is None:
        yield unknown(
            "field of view",
            "the angles of its training are not known",
            evidence,
        )
        return
    trained_deg = {c["name"]: c["fovy_deg"] for c in context.training_env["cameras"]}
    camera_map = context.adapters.camera_map
    for camera in cameras:
        name = context.training.original_name(camera_map.get(camera.name, camera.name))
        was_deg = trained_deg.get(name)
        if was_deg is not None and abs(was_deg - camera.fovy_deg) > _SAME_ANGLE_DEG:
            yield fail(
                "field of view",
                "another field of view than in training",
                f"{camera.name}: trained at {was_deg:.0f}°, here {camera.fovy_deg:.0f}°",
                "Evaluate in the scene of the training, or train on this camera.",
            )
    yield fine("field of view", "compared with the training's", evidence)


def _list(sizes: Sizes) -> str:
    return ", ".join(f"{camera} {format_image_size(size)}" for camera, size in sizes.items())
