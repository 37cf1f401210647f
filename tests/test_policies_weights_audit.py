"""Tests that the audit finds invalid numbers in parameters and in running statistics."""

import numpy as np
import pytest
import torch

from policies.weights_audit import audit_weights


class Masked(torch.nn.Module):
    """A network with BatchNorm and an attention mask.

    Its constructor makes the mask, which no file holds.
    """

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(4)
        self.register_buffer(
            "mask",
            torch.full((2, 2), -torch.inf),
            persistent=False,
        )


def test_a_mask_of_infinities_is_no_damage():
    audit = audit_weights(Masked())
    assert audit.non_finite == () and audit.negative_variances == () and audit.n_parameters == 8


@pytest.mark.parametrize(
    "buffer",
    ["running_mean", "running_var"],
)
@pytest.mark.parametrize(
    "number",
    [np.nan, np.inf],
)
def test_running_statistics_that_are_no_numbers_are_named(buffer, number):
    network = Masked()
    getattr(network.norm, buffer)[1] = number
    assert audit_weights(network).non_finite == (f"norm.{buffer}",)


def test_a_negative_variance_is_named():
    network = Masked()
    network.norm.running_mean[1] = -3
    assert audit_weights(network).negative_variances == ()
    network.norm.running_var[1] = -0.1
    assert audit_weights(network).negative_variances == ("norm.running_var",)
