"""The SO-101 arm: scene, units, kinematics, the pick-and-place task and its scripted expert."""
