import pickle

from medssl.errors import MedsslError, SourcePath, UserError, nearest, unknown


def test_message_says_what_where_and_what_to_do():
    assert str(UserError("bad", "here", "mend it")) == "here: bad\n  To do: mend it"
    assert str(MedsslError("bad")) == "bad"
    assert (UserError("x").exit_code, MedsslError("x").exit_code) == (2, 1)


def test_errors_survive_a_process_border():
    error = pickle.loads(pickle.dumps(UserError("a", "b", "c")))
    assert isinstance(error, UserError) and (error.what, error.where, error.fix) == ("a", "b", "c")


def test_nearest():
    assert nearest("budgts", ["budgets", "draws"]) == "budgets" and nearest("zzz", ["budgets"]) == ""
    assert "Did you mean 'draws'" in str(unknown("key", "draw", ["draws"]))


def test_the_text_of_an_error_leaves_out_a_path_of_a_source():
    error = pickle.loads(pickle.dumps(UserError("bad", SourcePath("/scans/DOE^JANE"), "mend it")))
    assert str(error) == "a file or folder of the source: bad\n  To do: mend it"
    assert error.text(error.where).startswith("/scans/DOE^JANE: bad")
