"""The tracer behind `make path`: it records what runs in its folder, in every thread, and counts the hops."""

import threading
from pathlib import Path

from benchmarks.path.trace import Tracer, Visit, route_of, split_at


def test_a_route_counts_files_openings_and_returns() -> None:
    """A file entered again by the same thread is a return; staying in a file is not an opening."""
    visits = [Visit(file, "f", "t") for file in ("a", "a", "b", "a", "c")] + [Visit("a", "f", "u")]
    route = route_of(visits)
    assert route.files == ("a", "b", "c")
    assert (route.openings, route.returns) == (5, 1)


def test_visits_are_split_at_each_call_of_the_first_stage() -> None:
    """What comes before the first such call belongs to no frame."""
    visits = [Visit(file, name, "t") for file, name in (("x", "g"), ("p", "go"), ("x", "g"), ("p", "go"))]
    assert [len(part) for part in split_at(visits, "p", "go")] == [2, 1]


def test_threads_started_later_are_traced_and_other_folders_are_not(tmp_path: Path) -> None:
    """Only functions of the folder count, whichever thread runs them."""
    source = tmp_path / "inside.py"
    source.write_text("def work():\n    return 1\n", encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), names)
    work = names["work"]
    assert callable(work)
    tracer = Tracer(tmp_path)
    tracer.install()
    try:
        work()
        tracer.start()
        thread = threading.Thread(target=work, name="other")
        thread.start()
        thread.join()
        tracer.stop()
    finally:
        tracer.uninstall()
    assert tracer.visits == [Visit("inside.py", "work", "other")]
