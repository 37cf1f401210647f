"""Writes files of demonstrations in the layout of robomimic's datasets."""

import json

import h5py
import numpy as np

from tests.stock_robosuite import begin_stock_episode, step_stock_env

ENV_KWARGS = {
    "robots": ["Panda"],
    "control_freq": 20,
    "controller_configs": {
        "type": "OSC_POSE",
        "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
        "control_delta": True,
    },
}


def record_stock_demonstration(stock, name, episode_index, actions):
    """Return the demonstration of these actions in robosuite's own environment."""
    begin_stock_episode(stock, name, episode_index)
    model_xml = stock.sim.model.get_xml()
    states = []
    for action in actions:
        states.append(stock.sim.get_state().flatten())
        step_stock_env(stock, action)
    return model_xml, np.array(states), np.asarray(actions, np.float64)


def write_demonstrations(path, name, demonstrations, **env_kwargs):
    env_args = {"env_name": name, "type": 1, "env_kwargs": ENV_KWARGS | env_kwargs}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args)
        data.attrs["total"] = sum(len(actions) for _, _, actions in demonstrations)
        for index, (model_xml, states, actions) in enumerate(demonstrations):
            demo = data.create_group(f"demo_{index}")
            demo.attrs["model_file"] = model_xml
            demo.attrs["num_samples"] = len(actions)
            demo["states"] = states
            demo["actions"] = actions
