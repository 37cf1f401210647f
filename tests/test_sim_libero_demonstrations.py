import json

import h5py
import mujoco
import numpy as np
import pytest
from libero.libero.utils.dataset_utils import get_dataset_info

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.demonstration_layout import IMAGE_KEYS, OBS_KEYS
from sim.libero_bench.demonstration_writing import write_demonstrations
from sim.libero_bench.demonstrations import load_demonstration, load_demonstrations
from sim.libero_bench.fixture_poses import read_fixture_poses

STATE_DIM = 9
MODEL_XML = """
<mujoco model="base">
  <compiler angle="radian" meshdir="meshes/"/>
  <worldbody>
    <light pos="1 1 1.5"/>
    <body name="table" pos="0 0 0.875"><geom size="0.1"/></body>
    <body name="bowl_1_main" pos="0 -0.1 0"><joint name="bowl_1_joint0" type="free"/>\
<geom size="0.1"/></body>
    <body name="plate_1_main"><freejoint/><geom size="0.1"/></body>
    <body name="wooden_cabinet_1_main" pos="0.0288091 -0.246863 0.905" quat="0 0 0 1">
      <body name="wooden_cabinet_1_top" pos="9 9 9"><joint type="slide"/><geom size="0.1"/></body>
    </body>
    <body name="flat_stove_1_main" quat="2 0 0 2"><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""
# h5py shows these values, with other paths, in a published file:
# libero_goal/open_the_middle_drawer_of_the_cabinet_demo.hdf5.
CONTROLLER = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}
BDDL_FILE_NAME = "libero/libero/bddl_files/libero_goal/open_the_drawer.bddl"
ENV_ARGS = {
    "type": 1,
    "env_name": "Libero_Tabletop_Manipulation",
    "problem_name": "libero_tabletop_manipulation",
    "bddl_file": BDDL_FILE_NAME,
    "env_kwargs": {
        "robots": ["Panda"],
        "controller_configs": CONTROLLER,
        "bddl_file_name": BDDL_FILE_NAME,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_camera_obs": True,
        "camera_depths": False,
        "camera_names": ["robot0_eye_in_hand", "agentview"],
        "reward_shaping": True,
        "control_freq": 20,
        "camera_heights": 4,
        "camera_widths": 5,
        "camera_segmentations": None,
    },
}
PROBLEM_INFO = {
    "problem_name": "libero_tabletop_manipulation",
    "domain_name": "robosuite",
    "language_instruction": "open the drawer",
}


@pytest.fixture
def bddl_path(tmp_path):
    path = tmp_path / "open_the_drawer.bddl"
    path.write_text("(define (problem LIBERO_Tabletop_Manipulation)\n  (:domain robosuite))")
    return path


def recording(seed, n_steps=6):
    """Return random values for everything that the environment reports in an episode."""
    rng = np.random.default_rng(seed)
    rotation = rng.normal(size=(n_steps, 3))
    # Rotations go up to a full turn, because robosuite's quaternions may have a negative real part.
    rotation *= np.linspace(0.1, 6, n_steps)[:, None] / np.linalg.norm(
        rotation, axis=1, keepdims=True
    )
    return {
        "actions": rng.uniform(-1, 1, (n_steps, 7)),
        "states": rng.normal(size=(n_steps, STATE_DIM)),
        "obs": {
            "agentview_rgb": rng.integers(
                0,
                255,
                (n_steps, 4, 5, 3),
                dtype=np.uint8,
            ),
            "eye_in_hand_rgb": rng.integers(
                0,
                255,
                (n_steps, 4, 5, 3),
                dtype=np.uint8,
            ),
            "ee_states": np.hstack([rng.normal(size=(n_steps, 3)), rotation]),
            "gripper_states": rng.normal(size=(n_steps, 2)),
            "joint_states": rng.normal(size=(n_steps, 7)),
        },
    }


def quat_xyzw(rotation):
    """Return the inverse of robosuite's quat2axisangle, whose angle is 2 acos(w)."""
    angle = np.linalg.norm(
        rotation,
        axis=1,
        keepdims=True,
    )
    return np.hstack([rotation / angle * np.sin(angle / 2), np.cos(angle / 2)])


def write_plainly(path, numbers=(0, 1, 2)):
    """Write a file in the layout of LIBERO's create_dataset.py, without any code of ours."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
        data.attrs["problem_info"] = json.dumps(PROBLEM_INFO)
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["bddl_file_name"] = BDDL_FILE_NAME
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        total = 0
        for number in numbers:
            episode = recording(number)
            obs = episode["obs"]
            n_steps = len(episode["actions"])
            demo = data.create_group(f"demo_{number}")
            group = demo.create_group("obs")
            for key, array in obs.items():
                group.create_dataset(key, data=array)
            group.create_dataset("ee_pos", data=obs["ee_states"][:, :3])
            group.create_dataset("ee_ori", data=obs["ee_states"][:, 3:])
            demo.create_dataset("actions", data=episode["actions"])
            demo.create_dataset("states", data=episode["states"])
            robot_states = [
                obs["gripper_states"],
                obs["ee_states"][:, :3],
                quat_xyzw(obs["ee_states"][:, 3:]),
            ]
            demo.create_dataset("robot_states", data=np.hstack(robot_states))
            flags = np.zeros(n_steps).astype(np.uint8)
            flags[-1] = 1
            demo.create_dataset("rewards", data=flags)
            demo.create_dataset("dones", data=flags)
            demo.attrs["num_samples"] = n_steps
            demo.attrs["model_file"] = MODEL_XML
            demo.attrs["init_state"] = episode["states"][0]
            total += n_steps
        data.attrs["num_demos"] = len(numbers)
        data.attrs["total"] = total
        data.attrs["tag"] = "libero-v1"
    return path


def write_ours(path, bddl_path, numbers=(0, 1, 2)):
    with write_demonstrations(path, "libero_goal", bddl_path, "open the drawer") as file:
        for number in numbers:
            file.add(**recording(number), model_xml=MODEL_XML)
    return path


def read_tree(path):
    """Return name → dtype, shape and value of everything in the file."""
    tree = {}
    with h5py.File(path) as file:

        def visit(name, node):
            if isinstance(node, h5py.Dataset):
                tree[name] = node.dtype, node.shape, node[()]
            for key, value in node.attrs.items():
                kind = node.attrs.get_id(key)
                tree[f"{name}@{key}"] = kind.dtype, kind.shape, value

        file.visititems(visit)
    return tree


def test_ours_is_the_published_layout_to_the_last_key_and_dtype(tmp_path, bddl_path):
    ours = read_tree(write_ours(tmp_path / "ours.hdf5", bddl_path))
    plain = read_tree(write_plainly(tmp_path / "p.hdf5"))
    assert ours.keys() == plain.keys()
    for name, (dtype, shape, value) in plain.items():
        assert ours[name][:2] == (dtype, shape), name
        if name.endswith("@env_args"):
            assert json.loads(ours[name][2]) == json.loads(value)
        elif name.endswith("robot_states"):
            np.testing.assert_allclose(ours[name][2], value, atol=1e-15)
        else:
            np.testing.assert_array_equal(ours[name][2], value, err_msg=name)


def test_libero_itself_reads_ours(tmp_path, bddl_path, capsys):
    path = write_ours(tmp_path / "ours.hdf5", bddl_path)
    get_dataset_info(str(path))
    said = capsys.readouterr().out
    assert "total transitions: 18" in said and "total trajectories: 3" in said
    assert (
        "language instruction: open the drawer" in said and "Libero_Tabletop_Manipulation" in said
    )


def test_we_read_what_others_wrote_in_the_order_of_its_numbers(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5", numbers=(0, 1, 2, 10, 11))
    demonstrations = load_demonstrations(path)
    assert [d.name for d in demonstrations] == ["demo_0", "demo_1", "demo_2", "demo_10", "demo_11"]
    for number, demonstration in zip((0, 1, 2, 10, 11), demonstrations, strict=True):
        wanted = recording(number)
        np.testing.assert_array_equal(demonstration.actions, wanted["actions"])
        np.testing.assert_array_equal(demonstration.states, wanted["states"])
        np.testing.assert_array_equal(demonstration.init_state, wanted["states"][0])
        assert (
            demonstration.instruction == "open the drawer"
            and demonstration.task_name == "open_the_drawer"
        )
        assert demonstration.fixture_poses.keys() == {
            "table",
            "wooden_cabinet_1_main",
            "flat_stove_1_main",
        }
        assert demonstration.obs == {}


def test_what_was_written_comes_back(tmp_path, bddl_path):
    path = write_ours(
        tmp_path / "new_folder" / "ours.hdf5",
        bddl_path,
        numbers=range(12),
    )
    for number, demonstration in enumerate(load_demonstrations(path, obs_keys=OBS_KEYS)):
        wanted = recording(number)
        np.testing.assert_array_equal(demonstration.actions, wanted["actions"])
        assert demonstration.obs.keys() == set(OBS_KEYS)
        for key, array in wanted["obs"].items():
            np.testing.assert_array_equal(demonstration.obs[key], array)
        np.testing.assert_array_equal(
            demonstration.obs["ee_ori"], wanted["obs"]["ee_states"][:, 3:]
        )
        assert demonstration.obs["agentview_rgb"].dtype == np.uint8


def test_a_file_of_what_was_read_is_the_same_file(tmp_path, bddl_path):
    first = write_ours(tmp_path / "first.hdf5", bddl_path)
    with write_demonstrations(
        tmp_path / "second.hdf5", "libero_goal", bddl_path, "open the drawer"
    ) as file:
        for d in load_demonstrations(first, obs_keys=OBS_KEYS):
            file.add(
                actions=d.actions,
                states=d.states,
                obs=d.obs,
                model_xml=MODEL_XML,
            )
    ours = read_tree(first)
    again = read_tree(tmp_path / "second.hdf5")
    assert ours.keys() == again.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name][2], again[name][2], err_msg=name)


def test_one_is_read_without_the_others(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5", numbers=(2, 10))
    with h5py.File(path, "r+") as file:
        del file["data/demo_2/actions"]
    demonstration = load_demonstration(path, 1, obs_keys=["ee_states"])
    assert demonstration.name == "demo_10" and demonstration.obs.keys() == {"ee_states"}
    for index in (-1, 2):
        with pytest.raises(WhiskerError, match="expected an index from 0 to 1"):
            load_demonstration(path, index)


def test_without_observations_there_is_enough_to_replay(tmp_path, bddl_path):
    path = tmp_path / "ours.hdf5"
    episode = recording(0)
    with write_demonstrations(path, "libero_goal", bddl_path, "open the drawer") as file:
        file.add(
            actions=episode["actions"],
            states=episode["states"],
            model_xml=MODEL_XML,
        )
    (demonstration,) = load_demonstrations(path)
    np.testing.assert_array_equal(demonstration.actions, episode["actions"])
    with h5py.File(path) as file:
        assert set(file["data/demo_0"]) == {"actions", "states", "rewards", "dones"}
    with pytest.raises(
        WhiskerError, match="expected a dataset 'obs/agentview_rgb', got actions, dones, rewards"
    ):
        load_demonstrations(path, obs_keys=["agentview_rgb"])


def test_numbers_are_read_as_float64_whatever_they_are_stored_as(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5")
    with h5py.File(path, "r+") as file:
        replace(
            file,
            "data/demo_0/actions",
            recording(0)["actions"].astype(np.float32),
        )
    assert load_demonstrations(path)[0].actions.dtype == np.float64


def test_instruction_as_letters_in_quotation_marks(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5")
    with h5py.File(path, "r+") as file:
        letters = list('"open the drawer"')
        file["data"].attrs["problem_info"] = json.dumps(
            PROBLEM_INFO | {"language_instruction": letters}
        )
    assert load_demonstration(path, 0).instruction == "open the drawer"


def replace(file, name, array):
    del file[name]
    file[name] = array


def spoil(name, change):
    """Return a damage that replaces the array of that name by the result of `change`."""
    return lambda file: replace(file, name, change(file[name][()]))


def with_value(value, at):
    def change(array):
        array[at] = value
        return array

    return change


def change_env_args(path, value):
    def damage(file):
        env_args = json.loads(json.dumps(ENV_ARGS))
        inner = env_args["env_kwargs"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        file["data"].attrs["env_args"] = json.dumps(env_args)

    return damage


def set_attribute(name, key, value):
    return lambda file: file[name].attrs.update({key: value})


def remove(name, attribute=None):
    def damage(file):
        if attribute:
            del file[name].attrs[attribute]
        else:
            del file[name]

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("data"), r"expected a group 'data', got \[\]"),
        (
            lambda file: [file["data"].attrs.pop(name) for name in list(file["data"].attrs)],
            (
                r"expected the attributes of LIBERO's own files.*"
                r"got none: it was regenerated without them"
            ),
        ),
        (
            lambda file: file.move("data/demo_1", "data/demo1") or remove("data/demo_0")(file),
            "expected groups 'data/demo_",
        ),
        (
            remove("data/demo_1/actions"),
            r"'demo_1' of .*: expected a dataset 'actions', got dones, obs, obs/agentview_rgb",
        ),
        (remove("data/demo_1/states"), "expected a dataset 'states'"),
        (
            remove("data/demo_1", "model_file"),
            "'demo_1' of .*: expected an attribute 'model_file', got init_state, num_",
        ),
        (remove("data/demo_1", "init_state"), "expected an attribute 'init_state'"),
        (
            remove("data", "problem_info"),
            "'data' of .*: expected an attribute 'problem_info', got bddl_file_name",
        ),
        (remove("data", "env_args"), "expected an attribute 'env_args'"),
        (remove("data", "bddl_file_name"), "expected an attribute 'bddl_file_name'"),
        (
            set_attribute("data", "problem_info", "{"),
            "'problem_info' of .*: expected a JSON object, got '{'",
        ),
        (set_attribute("data", "problem_info", "{}"), "expected a language_instruction, got none"),
        (
            set_attribute("data", "env_args", '{"env_kwargs": null}'),
            "expected type OSC_POSE, got None",
        ),
        (
            spoil("data/demo_1/actions", lambda a: a[:0]),
            "'demo_1' of .*: expected actions, got none",
        ),
        (
            spoil("data/demo_1/actions", lambda a: a[:, :6]),
            r"actions of 'demo_1' .*: expected \(T, 7\).*got \(6, 6\)",
        ),
        (spoil("data/demo_1/actions", lambda a: a[:, 0]), r"expected \(T, 7\).*got \(6,\)"),
        (
            spoil("data/demo_1/actions", with_value(np.nan, (3, 5))),
            "actions of 'demo_1' .*: expected finite numbers, got nan at step 3, column 5. Remove",
        ),
        (
            spoil("data/demo_1/states", with_value(np.inf, (0, 2))),
            "states of 'demo_1' .*got inf at step 0, column 2",
        ),
        (
            spoil("data/demo_1/states", lambda s: s[1:]),
            r"states of 'demo_1' .*expected one before each of 6.*got \(5, 9\)",
        ),
        (
            spoil("data/demo_1/states", lambda s: s[:, 1:]),
            r"init_state of 'demo_1' .*expected .*\(8,\), got \(9,\)",
        ),
        (
            spoil("data/demo_1/obs/agentview_rgb", lambda i: i[1:]),
            r"expected uint8 \(6, H, W, 3\), got uint8 \(5, 4",
        ),
        (
            spoil("data/demo_1/obs/agentview_rgb", lambda i: i / 255),
            "expected uint8 .* got float64",
        ),
        (
            spoil("data/demo_1/obs/ee_states", lambda e: e[:, :5]),
            r"obs/ee_states of .*expected \(6, 6\), got \(6, 5\)",
        ),
        (
            spoil("data/demo_1/obs/ee_states", with_value(np.nan, (1, 1))),
            "obs/ee_states of 'demo_1' .*got nan at step 1",
        ),
        (remove("data/demo_1/obs/joint_states"), "expected a dataset 'obs/joint_states'"),
        (set_attribute("data", "macros_image_convention", "opencv"), "expected opengl, got opencv"),
        (
            set_attribute("data/demo_1", "model_file", "<a/>"),
            "model_file of 'demo_1' .*expected an MJCF with a worldb",
        ),
        (
            change_env_args(["controller_configs", "control_delta"], False),
            "expected control_delta True, got False",
        ),
        (
            change_env_args(["controller_configs", "type"], "JOINT_POSITION"),
            "expected type OSC_POSE, got JOINT_POS",
        ),
        (
            change_env_args(["controller_configs", "output_max"], 0.1),
            r"expected output_max \[0.05.*got 0.1",
        ),
        (change_env_args(["control_freq"], 10), "expected control_freq 20, got 10"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_by_name(tmp_path, damage, says):
    path = write_plainly(tmp_path / "plain.hdf5", numbers=(0, 1))
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(WhiskerError, match=says) as caught:
        load_demonstrations(path, obs_keys=OBS_KEYS)
    assert str(path) in str(caught.value)


def test_images_upside_up_do_not_matter_to_who_asks_for_none(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5")
    with h5py.File(path, "r+") as file:
        file["data"].attrs["macros_image_convention"] = "opencv"
    assert load_demonstration(path, 0, obs_keys=["joint_states"]).obs


def test_an_observation_that_no_file_has(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'agentview_rbg'.*Did you mean 'agentview_rgb'"):
        load_demonstrations(write_plainly(tmp_path / "plain.hdf5"), obs_keys=["agentview_rbg"])


def test_no_file_a_folder_and_no_hdf5(tmp_path):
    with pytest.raises(WhiskerError, match=r"nothing\.hdf5: expected a file, got none"):
        load_demonstrations(tmp_path / "nothing.hdf5")
    with pytest.raises(WhiskerError, match="expected a file, got a folder"):
        load_demonstrations(tmp_path)
    pointer = tmp_path / "pointer.hdf5"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(
        WhiskerError,
        match=r"expected an HDF5 file, got 43 bytes in another format.*Git LFS pointer",
    ):
        load_demonstrations(pointer)


@pytest.mark.parametrize(
    "kept",
    [0.2, 0.6, 0.99],
)
def test_a_truncated_file(tmp_path, kept):
    path = write_plainly(tmp_path / "plain.hdf5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        WhiskerError, match=r"expected a whole HDF5 file, got a damaged one.*Download it again"
    ):
        load_demonstrations(path)


def test_a_file_with_a_hole(tmp_path):
    """Two downloads wrote the same file: its length is right, but part of its content is not."""
    path = write_plainly(tmp_path / "plain.hdf5")
    with h5py.File(path) as file:
        start = h5py.h5o.get_info(file["data/demo_1"].id).addr
    content = bytearray(path.read_bytes())
    content[start : start + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(WhiskerError, match="damaged one"):
        load_demonstrations(path)


def test_it_is_written_whole_or_not_at_all(tmp_path, bddl_path):
    path = write_ours(tmp_path / "out" / "ours.hdf5", bddl_path)
    before = path.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        write_demonstrations(path, "libero_goal", bddl_path, "open the drawer") as file,
    ):
        file.add(**recording(7), model_xml=MODEL_XML)
        raise KeyboardInterrupt
    with (
        pytest.raises(WhiskerError, match="expected at least one demonstration, got none"),
        write_demonstrations(path, "libero_goal", bddl_path, "open the drawer"),
    ):
        pass
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def without(key):
    return lambda episode: episode["obs"].pop(key)


def put(value, *keys):
    def change(episode):
        inner = episode
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            put(np.zeros((6, 6)), "actions"),
            r"actions of 'demo_1' for .*ours.hdf5: expected \(T, 7\)",
        ),
        (put(np.zeros((0, 7)), "actions"), "expected actions, got none"),
        (
            put(np.full((6, 7), -1.5), "actions"),
            r"actions of 'demo_1' .*expected \[-1, 1\], got 1.5. Clip them",
        ),
        (put(np.full((6, 7), np.nan), "actions"), "expected finite numbers, got nan"),
        (put(np.zeros((5, STATE_DIM)), "states"), "expected one before each of 6 actions"),
        (
            put(np.zeros((6, STATE_DIM + 1)), "states"),
            r"expected what the first one has, {'states': \(9,\)",
        ),
        (without("joint_states"), "expected what the first one has"),
        (put(np.zeros((6, 8)), "obs", "joint_states"), r"expected \(6, 7\), got \(6, 8\)"),
        (put(np.zeros((6, 4, 5, 3)), "obs", "agentview_rgb"), "expected uint8"),
        (
            put(
                np.zeros((6, 4, 4, 3), np.uint8),
                "obs",
                "agentview_rgb",
            ),
            "expected what the first one has",
        ),
        (
            put(np.zeros((6, 7)), "obs", "joints"),
            "observation of .*'joints'.*Did you mean 'joint_states'",
        ),
        (
            put("<mujoco/>", "model_xml"),
            "model_xml of 'demo_1' .*expected an MJCF with a worldbody",
        ),
    ],
)
def test_a_refused_one_leaves_the_file_as_it_was(tmp_path, bddl_path, change, says):
    path = tmp_path / "ours.hdf5"
    episode = recording(1) | {"model_xml": MODEL_XML}
    change(episode)
    with write_demonstrations(path, "libero_goal", bddl_path, "open the drawer") as file:
        file.add(**recording(0), model_xml=MODEL_XML)
        with pytest.raises(WhiskerError, match=says):
            file.add(**episode)
        file.add(**recording(2), model_xml=MODEL_XML)
    assert [d.name for d in load_demonstrations(path, obs_keys=IMAGE_KEYS)] == ["demo_0", "demo_1"]


def test_both_cameras_have_one_size(tmp_path, bddl_path):
    episode = recording(0)
    episode["obs"]["agentview_rgb"] = np.zeros((6, 4, 4, 3), np.uint8)
    with (
        pytest.raises(
            WhiskerError,
            match=r"images of 'demo_0' .*expected one size, got \[\(4, 4\), \(4, 5\)\]",
        ),
        write_demonstrations(
            tmp_path / "ours.hdf5", "libero_goal", bddl_path, "open the drawer"
        ) as file,
    ):
        file.add(**episode, model_xml=MODEL_XML)


def test_the_scene_comes_from_the_bddl_file(tmp_path):
    none = tmp_path / "none.bddl"
    wrong = tmp_path / "wrong.bddl"
    wrong.write_text("(define (domain robosuite))")
    for path, says in ((none, "expected a file to read"), (wrong, "no such line")):
        with (
            pytest.raises(WhiskerError, match=f"{path.name}: .*{says}"),
            write_demonstrations(tmp_path / "ours.hdf5", "libero_goal", path, "open the drawer"),
        ):
            pass
    with (
        pytest.raises(WhiskerError, match="expected an instruction"),
        write_demonstrations(tmp_path / "ours.hdf5", "libero_goal", wrong, ""),
    ):
        pass
    assert not (tmp_path / "ours.hdf5").exists()


def test_fixture_poses_are_those_of_the_model_that_was_saved(tmp_path):
    """MuJoCo is the oracle.

    The test moves poses in the compiled model, as LIBERO does at reset, and saves the model.
    """
    model = mujoco.MjModel.from_xml_string(MODEL_XML)
    rng = np.random.default_rng(0)
    fixtures = ("table", "wooden_cabinet_1_main", "flat_stove_1_main")
    for name in fixtures:
        model.body(name).pos = rng.normal(size=3)
        quat_wxyz = rng.normal(size=4)
        model.body(name).quat = quat_wxyz / np.linalg.norm(quat_wxyz)
    mujoco.mj_saveLastXML(str(tmp_path / "model.xml"), model)
    poses = read_fixture_poses((tmp_path / "model.xml").read_text())
    assert tuple(poses) == fixtures
    for name, (pos_world, quat_wxyz) in poses.items():
        np.testing.assert_allclose(pos_world, model.body(name).pos, rtol=5e-6)
        np.testing.assert_allclose(quat_wxyz, model.body(name).quat, rtol=2e-5)
        assert np.linalg.norm(quat_wxyz) == pytest.approx(1, abs=1e-15)


def test_poses_left_out_are_the_origin_and_quaternions_are_made_unit():
    poses = read_fixture_poses(MODEL_XML)
    np.testing.assert_array_equal(poses["table"].quat_wxyz, [1, 0, 0, 0])
    np.testing.assert_array_equal(
        poses["flat_stove_1_main"].pos_world,
        [0, 0, 0],
    )
    np.testing.assert_allclose(
        poses["flat_stove_1_main"].quat_wxyz,
        np.sqrt([0.5, 0, 0, 0.5]),
    )


BOMB = (
    '<!DOCTYPE m [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    "<mujoco><worldbody>&e;</worldbody></mujoco>"
)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        (BOMB, "expected an MJCF, got an XML with a DOCTYPE"),
        ("<mujoco><worldbody>", "expected an MJCF, got no XML"),
        ("<robot><worldbody/></robot>", "expected an MJCF with a worldbody, got <robot>"),
        (
            "<frame pos='1 0 0'><body name='table'/></frame>",
            "worldbody in .*: expected bodies, got <frame>",
        ),
        (
            "<body name='table' euler='0 0 1'/>",
            "body 'table' in .*got a rotation as euler. Save the model",
        ),
        ("<body pos='0 0 1'/>", "got no name"),
        ("<body name='table' quat='0 0 0 0'/>", "got a quaternion of zeros"),
        (
            "<body name='table' pos='0 0'/>",
            "pos of body 'table' in model_file: expected 3 numbers, got '0 0'",
        ),
        ("<body name='table' pos='0 0 nan'/>", "expected 3 numbers, got '0 0 nan'"),
        ("<body name='table' quat='1 0 0 x'/>", "expected 4 numbers, got '1 0 0 x'"),
    ],
)
def test_a_model_whose_poses_cannot_be_read_is_refused(inside, says):
    whole = inside.startswith(("<!DOCTYPE", "<mujoco", "<robot"))
    with pytest.raises(WhiskerError, match=says):
        read_fixture_poses(inside if whole else f"<mujoco><worldbody>{inside}</worldbody></mujoco>")
