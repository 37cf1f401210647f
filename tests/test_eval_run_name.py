"""Tests of the names of run folders."""

import pytest

from eval.run_name import name_policy_in_folder


@pytest.mark.parametrize(
    ("policy_type", "checkpoint", "name"),
    [
        ("zero", "", "zero"),
        ("act", "act", "act"),
        ("act", "act-early", "act-early"),
        ("smolvla", "HuggingFaceVLA/smolvla_libero", "smolvla_libero"),
        ("pi0", "lerobot/pi0_libero_finetuned_v044@v2", "pi0_libero_finetuned_v044"),
        (
            "act",
            "/data/outputs/train/2026-11-01/blocks/checkpoints/040000/pretrained_model",
            "act-blocks-040000",
        ),
        ("act", "outputs/train/blocks/checkpoints/last/pretrained_model", "act-blocks"),
        ("act", "../my policies/grün & rot", "act-gr-n-rot"),
        ("act", "/", "act"),
        ("my policy/v2", "", "my-policy-v2"),
        ("my policy/v2", "/x/my-policy-v2.bin", "my-policy-v2.bin"),
        ("../..", "", "policy"),
    ],
)
def test_the_name_tells_checkpoints_apart(policy_type, checkpoint, name):
    assert name_policy_in_folder(policy_type, checkpoint) == name


def test_long_names_keep_their_end_and_stay_names_of_folders():
    names = {name_policy_in_folder("act", f"/x/{'a' * 300}{i}") for i in range(3)}
    assert len(names) == 3
    assert all(len(name) == 48 for name in names)
