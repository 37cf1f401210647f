"""Offers robosuite's own tasks as environments, with the conventions of robomimic."""
