"""Whiskers, videos, viewers and reports: everything made from a run folder."""
