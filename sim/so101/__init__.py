"""The SO-101 arm: scene, units, kinematics, the pick-and-place tasks and their scripted expert."""
