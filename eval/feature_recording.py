"""Sets up the recording of features and observations, which changes no number of an evaluation."""

from dataclasses import dataclass

from cknna.bank_description import BankDescription, describe_policy
from eval.config import EvalConfig
from policies.embeddings import EMBEDDING_POINTS
from policies.policy import HookablePolicy, Policy, PolicySpec
from sim.env import Env
from sim.errors import WhiskerError


def check_collection(config: EvalConfig, policy: PolicySpec) -> None:
    """Raise unless the policy has what is to be collected. Quick: no network is looked at."""
    modules = config.hook.modules
    pool = config.hook.pool
    recording = config.recording
    if (modules or pool) and not recording.collect_features:
        flag = "--hook" if modules else "--pool"
        raise WhiskerError(flag, expected="--collect-features beside it", got="none")
    if pool and not modules:
        raise WhiskerError(
            f"--pool {pool}",
            expected="a hook point of your own beside it, --hook",
            got="none",
            hint="The pooling of a policy type's own embedding is fixed: `cknna audit` shows it.",
        )
    asked = {
        "--collect-features": recording.collect_features,
        "--record-observations": recording.record_observations,
    }
    for flag, is_asked in asked.items():
        if is_asked and not policy.image_sizes:
            raise WhiskerError(
                f"{flag} of policy {policy.type!r}",
                expected="a policy with a network that sees images",
                got="one without",
                hint=f"Leave {flag} out.",
            )


@dataclass(frozen=True)
class FeatureRecorder:
    """Holds the policy that records features, and the description of them.

    Attributes:
        policy: the evaluation's policy, whose chunks carry features.
        description: of these features.
    """

    policy: Policy
    description: BankDescription


def make_feature_recorder(
    config: EvalConfig,
    policy: Policy,
    env: Env,
) -> FeatureRecorder:
    """Make a policy that records features. It plans once, to see which modules are called.

    Raises:
        WhiskerError: there is no such hook point, or it is never called.
    """
    from cknna.audit import audit
    from cknna.feature_recording_policy import FeatureRecordingPolicy
    from cknna.hooks import FeatureHook

    if (
        not isinstance(getattr(policy, "inner", policy), HookablePolicy)
        or policy.spec.type not in EMBEDDING_POINTS
    ):
        expected = f"a policy whose embedding is known: {', '.join(EMBEDDING_POINTS)}"
        raise WhiskerError(
            f"--collect-features of policy {policy.spec.type!r}",
            expected=expected,
            hint="Leave --collect-features out.",
        )
    assert isinstance(policy, HookablePolicy)
    hook = FeatureHook(policy, config.hook.modules, config.hook.pool)
    env.reset(config.first_episode)
    seen = env.observe()
    described = describe_policy(policy, audit(policy, hook, seen.instruction, seen), seen)
    description = BankDescription(
        kind="rollout",
        source=config.env.name,
        state_names=env.spec.state_names,
        **described,
    )
    return FeatureRecorder(FeatureRecordingPolicy(policy, hook), description)
