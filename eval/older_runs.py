"""Reads names and forms that older versions wrote into a run folder and that have changed since."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from eval.config import EvalConfig
from policies.registry import BASELINE_NAMES, EXPERT_NAMES
from sim.flags import group_values
from sim.goals.older import read_older_goal

type _Json = dict[str, Any]

# An array of an episode file → the name that it had before.
EARLIER_ARRAY_NAMES: Mapping[str, str] = {"intermediate_chunk": "draft_chunk"}


def update_description(content: _Json) -> _Json:
    """Return the content of a `run.json` as this version would have written it.

    Parts that are damaged are returned as they are, for the reader to refuse.
    """
    updated = dict(_update_goals(content))
    for name, update in _UPDATES.items():
        if isinstance(updated.get(name), dict):
            updated[name] = update(updated[name])
    findings = updated.get("doctor")
    if isinstance(findings, list):
        updated["doctor"] = [_rename(one, {"do": "hint"}) for one in findings]
    return updated


def _update_config(config: _Json) -> _Json:
    """Put the flags into their groups, which they had not, under their present names."""
    if isinstance(config.get("policy"), dict):
        return config
    flags = _rename(config, {"drafts": "intermediate_plans", "horizon": "max_steps"})
    if flags.get("control") == "relative":
        flags["control"] = "delta"
    return group_values(EvalConfig, flags)


def _update_policy(policy: _Json) -> _Json:
    policy = _rename(policy, {"drafts": "intermediate_plans"})
    name = policy.get("type")
    if name not in BASELINE_NAMES:
        return policy
    # Runs did not say at first what a baseline is.
    return {"is_baseline": True, "follows_env": name in EXPERT_NAMES} | policy


def _update_goals(content: _Json) -> _Json:
    """Give the goals their kinds. Their thresholds stood beside them, of all kinds together."""
    env = content.get("env")
    resolved = content.get("resolved")
    if not isinstance(env, dict) or not isinstance(resolved, dict):
        return content
    goals = env.get("goals") or []
    thresholds = resolved.get("thresholds") or {}
    are_names = isinstance(goals, list) and all(isinstance(goal, str) and goal for goal in goals)
    if not are_names or not isinstance(thresholds, dict):
        return content
    now = [json.loads(json.dumps(asdict(read_older_goal(goal, thresholds)))) for goal in goals]
    rest = {name: value for name, value in resolved.items() if name != "thresholds"}
    return content | {"env": env | ({"goals": now} if goals else {}), "resolved": rest}


def _rename(fields: Any, new_names: Mapping[str, str]) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {new_names.get(name, name): value for name, value in fields.items()}


# Part of `run.json` → how it is updated.
_UPDATES: dict[str, Callable[[Any], Any]] = {
    "config": _update_config,
    "resolved": partial(_rename, new_names={"horizon": "max_steps"}),
    "policy": _update_policy,
}
