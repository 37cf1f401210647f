from sim.errors import UnknownNameError, WhiskerError


def test_message_says_subject_expected_got_and_what_to_do():
    error = WhiskerError("camera 'top'", expected="overhead_cam", got="none", do="Rename it.")
    assert str(error) == "camera 'top': expected overhead_cam, got none. Rename it."


def test_parts_that_are_not_given_leave_no_trace():
    assert str(WhiskerError("disk")) == "disk."
    assert str(WhiskerError("disk", got="full")) == "disk: got full."


def test_unknown_name_offers_the_closest_first():
    message = str(UnknownNameError("policy", "atc", ["act", "pi0", "zero"]))
    assert "Did you mean 'act'" in message and "pi0" in message
    assert "Did you mean" not in str(UnknownNameError("policy", "qqqq", ["act"]))
