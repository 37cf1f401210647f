import copy
import json
from functools import partial

import h5py
import mujoco
import numpy as np
import pytest
from libero.libero.utils.dataset_utils import get_dataset_info
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.demonstration_layout import IMAGE_KEYS, OBS_KEYS
from sim.libero_bench.demonstration_writing import write_demonstrations
from sim.libero_bench.demonstrations import load_demonstration, load_demonstrations
from sim.libero_bench.fixture_poses import read_fixture_poses

STATE_DIM = 9
N_STEPS = 6
FIXTURES = {"table", "wooden_cabinet_1_main", "flat_stove_1_main"}
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
def writing(tmp_path):
    """Return a function that writes demonstrations of one task into the file of that path."""
    bddl_path = tmp_path / "open_the_drawer.bddl"
    bddl_path.write_text("(define (problem LIBERO_Tabletop_Manipulation)\n  (:domain robosuite))")
    return partial(
        write_demonstrations,
        suite="libero_goal",
        bddl_path=bddl_path,
        instruction="open the drawer",
    )


@pytest.fixture
def ours(writing, tmp_path):
    """Return a file with three demonstrations that we wrote, in a new folder."""
    path = tmp_path / "new_folder" / "ours.hdf5"
    with writing(path) as file:
        for number in range(3):
            file.add(**recording(number))
    return path


@pytest.fixture
def plain(tmp_path):
    """Return a file with two demonstrations that others wrote."""
    return write_plainly(tmp_path / "plain.hdf5", numbers=(0, 1))


def recording(seed):
    """Return random values for everything that the environment reports in an episode."""
    rng = default_rng(seed)
    axis = rng.normal(size=(N_STEPS, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    # Rotations go up to a full turn, because robosuite's quaternions may have a negative real part.
    rotation = np.linspace(0.1, 6, N_STEPS)[:, None] * axis
    images = rng.integers(0, 255, (2, N_STEPS, 4, 5, 3), dtype=np.uint8)
    return {
        "actions": rng.uniform(-1, 1, (N_STEPS, 7)),
        "states": rng.normal(size=(N_STEPS, STATE_DIM)),
        "obs": {
            "agentview_rgb": images[0],
            "eye_in_hand_rgb": images[1],
            "ee_states": np.hstack([rng.normal(size=(N_STEPS, 3)), rotation]),
            "gripper_states": rng.normal(size=(N_STEPS, 2)),
            "joint_states": rng.normal(size=(N_STEPS, 7)),
        },
        "model_xml": MODEL_XML,
    }


def write_plainly(path, numbers=(0, 1, 2)):
    """Write a file in the layout of LIBERO's create_dataset.py, without any code of ours."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(
            env_name="Libero_Tabletop_Manipulation",
            problem_info=json.dumps(PROBLEM_INFO),
            macros_image_convention="opengl",
            bddl_file_name=BDDL_FILE_NAME,
            env_args=json.dumps(ENV_ARGS),
            num_demos=len(numbers),
            total=N_STEPS * len(numbers),
            tag="libero-v1",
        )
        for number in numbers:
            episode = recording(number)
            obs = episode["obs"]
            demo = data.create_group(f"demo_{number}")
            for key, array in obs.items():
                demo[f"obs/{key}"] = array
            pos, rotation = np.hsplit(obs["ee_states"], 2)
            demo["obs/ee_pos"] = pos
            demo["obs/ee_ori"] = rotation
            demo["actions"] = episode["actions"]
            demo["states"] = states = episode["states"]
            # robosuite's quat2axisangle, whose angle is 2 acos(w), is the inverse.
            quat_xyzw = Rotation.from_rotvec(rotation).as_quat()
            demo["robot_states"] = np.hstack([obs["gripper_states"], pos, quat_xyzw])
            demo["rewards"] = demo["dones"] = np.arange(1, N_STEPS + 1, dtype=np.uint8) // N_STEPS
            demo.attrs.update(num_samples=N_STEPS, model_file=MODEL_XML, init_state=states[0])
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


def assert_refused(path, says):
    with pytest.raises(WhiskerError, match=says) as caught:
        load_demonstrations(path, obs_keys=OBS_KEYS)
    assert str(path) in str(caught.value)


def test_ours_is_the_published_layout_to_the_last_key_and_dtype(ours, tmp_path):
    written = read_tree(ours)
    plain = read_tree(write_plainly(tmp_path / "plain.hdf5"))
    assert written.keys() == plain.keys()
    for name, (dtype, shape, value) in plain.items():
        assert written[name][:2] == (dtype, shape), name
        if name.endswith("@env_args"):
            assert json.loads(written[name][2]) == json.loads(value)
        elif name.endswith("robot_states"):
            assert_allclose(written[name][2], value, atol=1e-15)
        else:
            assert_array_equal(written[name][2], value, err_msg=name)


def test_libero_itself_reads_ours(ours, capsys):
    get_dataset_info(str(ours))
    said = capsys.readouterr().out
    assert "total transitions: 18" in said and "total trajectories: 3" in said
    assert "language instruction: open the drawer" in said
    assert "Libero_Tabletop_Manipulation" in said


def test_we_read_what_others_wrote_in_the_order_of_its_numbers(tmp_path):
    numbers = (0, 1, 2, 10, 11)
    path = write_plainly(tmp_path / "plain.hdf5", numbers)
    demonstrations = load_demonstrations(path, obs_keys=OBS_KEYS)
    for number, demonstration in zip(numbers, demonstrations, strict=True):
        wanted = recording(number)
        assert demonstration.name == f"demo_{number}"
        assert_array_equal(demonstration.actions, wanted["actions"])
        assert_array_equal(demonstration.states, wanted["states"])
        assert_array_equal(demonstration.init_state, wanted["states"][0])
        assert demonstration.instruction == "open the drawer"
        assert demonstration.task_name == "open_the_drawer"
        assert demonstration.fixture_poses.keys() == FIXTURES
        assert demonstration.obs.keys() == set(OBS_KEYS)
        for key, array in wanted["obs"].items():
            assert_array_equal(demonstration.obs[key], array)
        assert_array_equal(demonstration.obs["ee_ori"], wanted["obs"]["ee_states"][:, 3:])
        assert demonstration.obs["agentview_rgb"].dtype == np.uint8


def test_a_file_of_what_was_read_is_the_same_file(ours, writing, tmp_path):
    with writing(tmp_path / "second.hdf5") as file:
        for d in load_demonstrations(ours, obs_keys=OBS_KEYS):
            file.add(actions=d.actions, states=d.states, obs=d.obs, model_xml=MODEL_XML)
    again = read_tree(tmp_path / "second.hdf5")
    for name, (*_, value) in read_tree(ours).items():
        assert_array_equal(again.pop(name)[2], value, err_msg=name)
    assert not again


def test_one_is_read_without_the_others(tmp_path):
    path = write_plainly(tmp_path / "plain.hdf5", numbers=(2, 10))
    with h5py.File(path, "r+") as file:
        del file["data/demo_2/actions"]
    demonstration = load_demonstration(path, 1, obs_keys=["ee_states"])
    assert demonstration.name == "demo_10" and demonstration.obs.keys() == {"ee_states"}
    for index in (-1, 2):
        with pytest.raises(WhiskerError, match="expected an index from 0 to 1"):
            load_demonstration(path, index)


def test_without_observations_there_is_enough_to_replay(writing, tmp_path):
    path = tmp_path / "ours.hdf5"
    episode = recording(0)
    with writing(path) as file:
        file.add(actions=episode["actions"], states=episode["states"], model_xml=MODEL_XML)
    (demonstration,) = load_demonstrations(path)
    assert_array_equal(demonstration.actions, episode["actions"])
    with h5py.File(path) as file:
        assert set(file["data/demo_0"]) == {"actions", "states", "rewards", "dones"}
    assert_refused(path, "expected a dataset 'obs/agentview_rgb', got actions, dones, rewards")


def test_numbers_are_read_as_float64_whatever_they_are_stored_as(plain):
    with h5py.File(plain, "r+") as file:
        change_array("actions", np.float32)(file)
    demonstration = load_demonstration(plain, 1)
    assert demonstration.actions.dtype == np.float64 and demonstration.obs == {}


def test_instruction_as_letters_in_quotation_marks(plain):
    letters = list('"open the drawer"')
    with h5py.File(plain, "r+") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": letters})
    assert load_demonstration(plain, 0).instruction == "open the drawer"


def change_array(name, change):
    """Return a damage that replaces an array of `demo_1` by the result of `change`."""

    def damage(file):
        path = f"data/demo_1/{name}"
        array = change(file[path][()])
        del file[path]
        file[path] = array

    return damage


def put(value, place):
    def change(array):
        array[place] = value
        return array

    return change


def remove_attribute(name, key):
    return lambda file: file[name].attrs.pop(key)


def set_attribute(name, key, value):
    return lambda file: file[name].attrs.update({key: value})


def change_env_args(value, *keys):
    env_args = copy.deepcopy(ENV_ARGS)
    inner = env_args["env_kwargs"]
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return set_attribute("data", "env_args", json.dumps(env_args))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.pop("data"), r"expected a group 'data', got \[\]"),
        (
            lambda file: file["data"].attrs.clear(),
            "expected the attributes of LIBERO's own files.*"
            "got none: it was regenerated without them",
        ),
        (
            lambda file: file.move("data/demo_1", "data/demo1") or file.pop("data/demo_0"),
            "expected groups 'data/demo_",
        ),
        (
            lambda file: file.pop("data/demo_1/actions"),
            r"'demo_1' of .*: expected a dataset 'actions', got dones, obs, obs/agentview_rgb",
        ),
        (lambda file: file.pop("data/demo_1/states"), "expected a dataset 'states'"),
        (
            lambda file: file.pop("data/demo_1/obs/joint_states"),
            "expected a dataset 'obs/joint_states'",
        ),
        (
            remove_attribute("data/demo_1", "model_file"),
            "'demo_1' of .*: expected an attribute 'model_file', got init_state, num_",
        ),
        (remove_attribute("data/demo_1", "init_state"), "expected an attribute 'init_state'"),
        (
            remove_attribute("data", "problem_info"),
            "'data' of .*: expected an attribute 'problem_info', got bddl_file_name",
        ),
        (remove_attribute("data", "env_args"), "expected an attribute 'env_args'"),
        (remove_attribute("data", "bddl_file_name"), "expected an attribute 'bddl_file_name'"),
        (
            set_attribute("data", "problem_info", "{"),
            "'problem_info' of .*: expected a JSON object, got '{'",
        ),
        (set_attribute("data", "problem_info", "{}"), "expected a language_instruction, got none"),
        (
            set_attribute("data", "env_args", '{"env_kwargs": null}'),
            "expected type OSC_POSE, got None",
        ),
        (set_attribute("data", "macros_image_convention", "opencv"), "expected opengl, got opencv"),
        (
            set_attribute("data/demo_1", "model_file", "<a/>"),
            "model_file of 'demo_1' .*expected an MJCF with a worldb",
        ),
        (
            change_array("actions", lambda a: a[:0]),
            "'demo_1' of .*: expected actions, got none",
        ),
        (
            change_array("actions", lambda a: a[:, :6]),
            r"actions of 'demo_1' .*: expected \(T, 7\).*got \(6, 6\)",
        ),
        (change_array("actions", lambda a: a[:, 0]), r"expected \(T, 7\).*got \(6,\)"),
        (
            change_array("actions", put(np.nan, (3, 5))),
            "actions of 'demo_1' .*: expected finite numbers, got nan at step 3, column 5. Remove",
        ),
        (
            change_array("states", put(np.inf, (0, 2))),
            "states of 'demo_1' .*got inf at step 0, column 2",
        ),
        (
            change_array("states", lambda s: s[1:]),
            r"states of 'demo_1' .*expected one before each of 6.*got \(5, 9\)",
        ),
        (
            change_array("states", lambda s: s[:, 1:]),
            r"init_state of 'demo_1' .*expected .*\(8,\), got \(9,\)",
        ),
        (
            change_array("obs/agentview_rgb", lambda i: i[1:]),
            r"expected uint8 \(6, H, W, 3\), got uint8 \(5, 4",
        ),
        (
            change_array("obs/agentview_rgb", lambda i: i / 255),
            "expected uint8 .* got float64",
        ),
        (
            change_array("obs/ee_states", lambda e: e[:, :5]),
            r"obs/ee_states of .*expected \(6, 6\), got \(6, 5\)",
        ),
        (
            change_array("obs/ee_states", put(np.nan, (1, 1))),
            "obs/ee_states of 'demo_1' .*got nan at step 1",
        ),
        (
            change_env_args(False, "controller_configs", "control_delta"),
            "expected control_delta True, got False",
        ),
        (
            change_env_args("JOINT_POSITION", "controller_configs", "type"),
            "expected type OSC_POSE, got JOINT_POS",
        ),
        (
            change_env_args(0.1, "controller_configs", "output_max"),
            r"expected output_max \[0.05.*got 0.1",
        ),
        (change_env_args(10, "control_freq"), "expected control_freq 20, got 10"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_by_name(plain, damage, says):
    with h5py.File(plain, "r+") as file:
        damage(file)
    assert_refused(plain, says)


def test_images_upside_up_do_not_matter_to_who_asks_for_none(plain):
    with h5py.File(plain, "r+") as file:
        file["data"].attrs["macros_image_convention"] = "opencv"
    assert load_demonstration(plain, 0, obs_keys=["joint_states"]).obs


def test_an_observation_that_no_file_has(plain):
    with pytest.raises(UnknownNameError, match=r"'agentview_rbg'.*Did you mean 'agentview_rgb'"):
        load_demonstrations(plain, obs_keys=["agentview_rbg"])


def test_no_file_a_folder_and_no_hdf5(tmp_path):
    pointer = tmp_path / "pointer.hdf5"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    in_another_format = "expected an HDF5 file, got 43 bytes in another format.*Git LFS pointer"
    assert_refused(tmp_path / "nothing.hdf5", "expected a file, got none")
    assert_refused(tmp_path, "expected a file, got a folder")
    assert_refused(pointer, in_another_format)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_a_truncated_file(plain, kept):
    whole = plain.read_bytes()
    plain.write_bytes(whole[: int(kept * len(whole))])
    assert_refused(plain, "expected a whole HDF5 file, got a damaged one.*Download it again")


def test_a_file_with_a_hole(plain):
    """Two downloads wrote the same file: its length is right, but part of its content is not."""
    with h5py.File(plain) as file:
        start = h5py.h5o.get_info(file["data/demo_1"].id).addr
    content = bytearray(plain.read_bytes())
    content[start : start + 64] = bytes(64)
    plain.write_bytes(content)
    assert_refused(plain, "damaged one")


def test_it_is_written_whole_or_not_at_all(ours, writing):
    before = ours.read_bytes()
    with pytest.raises(KeyboardInterrupt), writing(ours) as file:
        file.add(**recording(7))
        raise KeyboardInterrupt
    none = "expected at least one demonstration, got none"
    with pytest.raises(WhiskerError, match=none), writing(ours):
        pass
    assert ours.read_bytes() == before and list(ours.parent.iterdir()) == [ours]


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("actions", np.zeros((6, 6)), r"actions of 'demo_1' for .*ours.hdf5: expected \(T, 7\)"),
        ("actions", np.zeros((0, 7)), "expected actions, got none"),
        (
            "actions",
            np.full((6, 7), -1.5),
            r"actions of 'demo_1' .*expected \[-1, 1\], got 1.5. Clip them",
        ),
        ("actions", np.full((6, 7), np.nan), "expected finite numbers, got nan"),
        ("states", np.zeros((5, STATE_DIM)), "expected one before each of 6 actions"),
        (
            "states",
            np.zeros((6, STATE_DIM + 1)),
            r"expected what the first one has, {'states': \(9,\)",
        ),
        ("model_xml", "<mujoco/>", "model_xml of 'demo_1' .*expected an MJCF with a worldbody"),
        ("obs/joint_states", None, "expected what the first one has"),
        ("obs/joint_states", np.zeros((6, 8)), r"expected \(6, 7\), got \(6, 8\)"),
        ("obs/agentview_rgb", np.zeros((6, 4, 5, 3)), "expected uint8"),
        ("obs/agentview_rgb", np.zeros((6, 4, 4, 3), np.uint8), "expected what the first one has"),
        ("obs/joints", np.zeros((6, 7)), "observation of .*'joints'.*Did you mean 'joint_states'"),
    ],
)
def test_a_refused_one_leaves_the_file_as_it_was(place, value, says, writing, tmp_path):
    episode = recording(1)
    name = place.removeprefix("obs/")
    arrays = episode if name == place else episode["obs"]
    arrays[name] = value
    if value is None:
        del arrays[name]
    path = tmp_path / "ours.hdf5"
    with writing(path) as file:
        file.add(**recording(0))
        with pytest.raises(WhiskerError, match=says):
            file.add(**episode)
        file.add(**recording(2))
    assert [d.name for d in load_demonstrations(path, obs_keys=IMAGE_KEYS)] == ["demo_0", "demo_1"]


def test_both_cameras_have_one_size(writing, tmp_path):
    episode = recording(0)
    episode["obs"]["agentview_rgb"] = np.zeros((6, 4, 4, 3), np.uint8)
    sizes = r"images of 'demo_0' .*expected one size, got \[\(4, 4\), \(4, 5\)\]"
    with pytest.raises(WhiskerError, match=sizes), writing(tmp_path / "ours.hdf5") as file:
        file.add(**episode)


def test_the_scene_comes_from_the_bddl_file(tmp_path):
    wrong = tmp_path / "wrong.bddl"
    wrong.write_text("(define (domain robosuite))")
    for bddl_path, instruction, says in (
        (tmp_path / "none.bddl", "open the drawer", r"none\.bddl: .*expected a file to read"),
        (wrong, "open the drawer", r"wrong\.bddl: .*no such line"),
        (wrong, "", "expected an instruction"),
    ):
        path = tmp_path / "ours.hdf5"
        opened = write_demonstrations(path, "libero_goal", bddl_path, instruction)
        with pytest.raises(WhiskerError, match=says), opened:
            pass
        assert not path.exists()


def test_fixture_poses_are_those_of_the_model_that_was_saved(tmp_path):
    """MuJoCo is the oracle.

    The test moves poses in the compiled model, as LIBERO does at reset, and saves the model.
    """
    model = mujoco.MjModel.from_xml_string(MODEL_XML)
    rng = default_rng(0)
    for name in FIXTURES:
        model.body(name).pos = rng.normal(size=3)
        quat_wxyz = rng.normal(size=4)
        model.body(name).quat = quat_wxyz / np.linalg.norm(quat_wxyz)
    mujoco.mj_saveLastXML(str(tmp_path / "model.xml"), model)
    poses = read_fixture_poses((tmp_path / "model.xml").read_text())
    assert poses.keys() == FIXTURES
    for name, (pos_world, quat_wxyz) in poses.items():
        assert_allclose(pos_world, model.body(name).pos, rtol=5e-6)
        assert_allclose(quat_wxyz, model.body(name).quat, rtol=2e-5)
        assert np.linalg.norm(quat_wxyz) == pytest.approx(1, abs=1e-15)


def test_poses_left_out_are_the_origin_and_quaternions_are_made_unit():
    poses = read_fixture_poses(MODEL_XML)
    assert_array_equal(poses["table"].quat_wxyz, [1, 0, 0, 0])
    assert_array_equal(poses["flat_stove_1_main"].pos_world, [0, 0, 0])
    assert_allclose(poses["flat_stove_1_main"].quat_wxyz, np.sqrt([0.5, 0, 0, 0.5]))


BOMB = '<!DOCTYPE m [<!ENTITY e SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("<frame><body name='table'/></frame>", "worldbody in .*: expected bodies, got <frame>"),
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
def test_poses_that_cannot_be_read_are_refused(inside, says):
    with pytest.raises(WhiskerError, match=says):
        read_fixture_poses(f"<mujoco><worldbody>{inside}</worldbody></mujoco>")


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        (
            f"{BOMB}<mujoco><worldbody>&e;</worldbody></mujoco>",
            "expected an MJCF, got an XML with a DOCTYPE",
        ),
        ("<mujoco><worldbody>", "expected an MJCF, got no XML"),
        ("<robot><worldbody/></robot>", "expected an MJCF with a worldbody, got <robot>"),
    ],
)
def test_what_is_no_model_is_refused(xml, says):
    with pytest.raises(WhiskerError, match=says):
        read_fixture_poses(xml)
