"""Offers SimplerEnv's four Bridge tasks as environments, simulated by ManiSkill 3 and SAPIEN 3."""
