import gc
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import scans.contrast
from scans.contrast import QUEUES, QueueRow, Sent, WrongSend, find_wrong_sends
from scans.contrast.sqlalchemy_dispatcher import run_sweep

KEEPS = ("list", "loop variable", "nothing")
ROOT = Path(scans.contrast.__file__).parents[2]


@pytest.fixture(params=["collector off", "collector eager"], autouse=True)
def garbage_collection(request):
    """The outcomes must follow from references alone, so each holds with no collection and with one all the time."""
    thresholds = gc.get_threshold()
    if request.param == "collector off":
        gc.disable()
    else:
        gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)
    gc.enable()


def sent_for(tenant, outcome):
    return [(one.queue_id, one.task_id) for one in outcome.sent if one.tenant == tenant]


def queue_in_file(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT id, task_id FROM task_queue ORDER BY id").fetchall()


@pytest.mark.parametrize(
    ("keep", "task_sent_for_acme"),
    [("list", 121), ("loop variable", 121), ("nothing", 38)],
)
def test_acme_gets_globex_task_when_globex_row_is_still_alive(tmp_path, keep, task_sent_for_acme):
    outcome = run_sweep(keep, tmp_path, QUEUES)

    assert outcome.sent == (
        Sent("globex", 33, 113),
        Sent("globex", 37, 117),
        Sent("globex", 41, 121),
        Sent("acme", 34, 31),
        Sent("acme", 39, 36),
        Sent("acme", 41, task_sent_for_acme),
        Sent("acme", 46, 43),
    )


@pytest.mark.parametrize(
    ("keep", "wrong"),
    [
        ("list", (WrongSend("acme", 41, sent=121, held=38),)),
        ("loop variable", (WrongSend("acme", 41, sent=121, held=38),)),
        ("nothing", ()),
    ],
)
def test_only_the_id_in_both_queues_is_wrong(tmp_path, keep, wrong):
    assert run_sweep(keep, tmp_path, QUEUES).wrong == wrong


@pytest.mark.parametrize("keep", KEEPS)
def test_each_queue_was_selected_from_its_own_database_whatever_was_sent(tmp_path, keep):
    outcome = run_sweep(keep, tmp_path, QUEUES)

    select = (
        "SELECT task_queue.id, task_queue.task_id, task_queue.handled "
        "FROM task_queue WHERE task_queue.handled = 0 ORDER BY task_queue.id"
    )
    assert [(one.database, " ".join(one.sql.split())) for one in outcome.statements] == [
        ("globex.sqlite3", select),
        ("acme.sqlite3", select),
    ]


@pytest.mark.parametrize("keep", KEEPS)
def test_the_databases_hold_the_right_tasks_before_and_after_the_wrong_one_was_sent(tmp_path, keep):
    run_sweep(keep, tmp_path, QUEUES)

    assert queue_in_file(tmp_path / "globex.sqlite3") == [(33, 113), (37, 117), (41, 121)]
    assert queue_in_file(tmp_path / "acme.sqlite3") == [(34, 31), (39, 36), (41, 38), (46, 43)]


@pytest.mark.parametrize(
    ("keep", "sent_for_a"),
    [
        ("list", [(40, 120), (41, 121), (42, 122), (43, 7)]),
        ("loop variable", [(40, 4), (41, 5), (42, 122), (43, 7)]),
        ("nothing", [(40, 4), (41, 5), (42, 6), (43, 7)]),
    ],
)
def test_a_kept_list_spoils_every_shared_id_and_a_kept_loop_variable_only_the_last(tmp_path, keep, sent_for_a):
    queues = {
        "b": [QueueRow(39, 119), QueueRow(40, 120), QueueRow(41, 121), QueueRow(42, 122)],
        "a": [QueueRow(40, 4), QueueRow(41, 5), QueueRow(42, 6), QueueRow(43, 7)],
    }

    assert sent_for("a", run_sweep(keep, tmp_path, queues)) == sent_for_a


@pytest.mark.parametrize(("keep", "task_sent_for_a"), [("list", 121), ("loop variable", 38), ("nothing", 38)])
def test_a_kept_loop_variable_does_no_harm_when_the_last_id_is_not_shared(tmp_path, keep, task_sent_for_a):
    queues = {"b": [QueueRow(41, 121), QueueRow(42, 122)], "a": [QueueRow(41, 38)]}

    assert sent_for("a", run_sweep(keep, tmp_path, queues)) == [(41, task_sent_for_a)]


@pytest.mark.parametrize("keep", KEEPS)
def test_queues_without_a_shared_id_are_sent_as_they_are(tmp_path, keep):
    queues = {"b": [QueueRow(41, 121)], "a": [QueueRow(40, 37), QueueRow(42, 39)]}

    outcome = run_sweep(keep, tmp_path, queues)

    assert outcome.sent == (Sent("b", 41, 121), Sent("a", 40, 37), Sent("a", 42, 39))
    assert outcome.wrong == ()


def test_the_tenant_swept_second_is_the_one_that_gets_the_wrong_task(tmp_path):
    outcome = run_sweep("list", tmp_path, {"acme": QUEUES["acme"], "globex": QUEUES["globex"]})

    assert outcome.wrong == (WrongSend("globex", 41, sent=38, held=121),)


def test_sweeps_in_one_process_do_not_influence_each_other(tmp_path):
    wrong_sends = []
    for number, keep in enumerate(("list", "nothing", "loop variable", "nothing")):
        directory = tmp_path / str(number)
        directory.mkdir()
        wrong_sends.append(len(run_sweep(keep, directory, QUEUES).wrong))

    assert wrong_sends == [1, 0, 1, 0]


def test_a_task_under_an_id_that_the_queue_does_not_have_is_wrong():
    wrong = find_wrong_sends([Sent("acme", 33, 113), Sent("acme", 41, 38)], QUEUES)

    assert wrong == (WrongSend("acme", 33, sent=113, held=None),)


@pytest.mark.parametrize("keep", KEEPS)
def test_no_database_is_left_open(tmp_path, keep):
    run_sweep(keep, tmp_path, QUEUES)

    held_open = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd)]
    assert [path for path in held_open if path.startswith(str(tmp_path))] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme.sqlite3", "globex.sqlite3"]


def is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")  # the descriptor that listed the folder is closed by now


def test_a_file_that_was_there_before_is_refused_and_left_as_it_was(tmp_path):
    existing = tmp_path / "globex.sqlite3"
    existing.write_bytes(b"somebody's data")

    with pytest.raises(FileExistsError, match=r"globex\.sqlite3"):
        run_sweep("list", tmp_path, QUEUES)

    assert existing.read_bytes() == b"somebody's data"


def test_importing_the_package_imports_neither_sqlalchemy_nor_flask():
    program = "import sys, scans.contrast; print({'sqlalchemy', 'flask', 'flask_sqlalchemy'} & set(sys.modules))"

    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert (run.stdout.strip(), run.stderr) == ("set()", "")


def test_without_the_extra_the_error_names_it_and_how_to_install_it():
    no_site_packages = ["-I", "-S"]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import scans.contrast.sqlalchemy_dispatcher"

    run = subprocess.run([sys.executable, *no_site_packages, "-c", program], capture_output=True, text=True, timeout=30)

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: The SQLAlchemy half of the contrast needs the extra 'contrast' (flask is missing). "
        "Install it in the project's directory: pip install -e '.[contrast]'"
    )
