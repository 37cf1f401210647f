from sim.errors import UnknownNameError, WhiskerError


def test_message_says_subject_expected_got_and_what_to_do():
    error = WhiskerError(
        "camera 'top'",
        expected="overhead_cam",
        got="none",
        hint="Rename it.",
    )
    assert str(error) == "camera 'top': expected overhead_cam, got none. Rename it."


def test_parts_that_are_not_given_leave_no_trace():
    assert str(WhiskerError("disk")) == "disk."
    assert str(WhiskerError("disk", got="full")) == "disk: got full."


def test_unknown_name_offers_the_closest_first():
    message = "policy 'atc': expected a known name. Did you mean 'act'?"
    assert str(UnknownNameError("policy", "atc", ["act"])) == message
    others = " The others are: pi0, zero."
    assert str(UnknownNameError("policy", "atc", ["act", "pi0", "zero"])) == message + others


def test_known_names_are_listed_if_none_is_close():
    message = "policy 'qqqq': expected a known name. Known are: act."
    assert str(UnknownNameError("policy", "qqqq", ["act"])) == message
