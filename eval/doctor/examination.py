"""Keeps the former names of `eval.doctor.diagnosis`, for callers that still use them."""

from eval.doctor.diagnosis import diagnose
from eval.doctor.diagnosis import run_checks as examine
from eval.doctor.findings_output import print_findings, to_json, worst_level

__all__ = ["diagnose", "examine", "print_findings", "to_json", "worst_level"]
