"""Which lines does a process pass through that a test has started? Imported by Python itself, where a test run asks for it."""

import atexit
import os

if folder := os.environ.get("MUTANTS_LINES"):
    import coverage

    _measured = coverage.Coverage(
        data_file=f"{folder}/lines",
        data_suffix=True,
        include=[f"{os.environ['MUTANTS_COPY']}/*"],
        context=os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0],
        config_file=False,
    )
    _measured.set_option("run:patch", ["_exit"])
    _measured.set_option("run:disable_warnings", ["no-data-collected"])
    _measured.start()

    @atexit.register
    def _save() -> None:
        _measured.stop()
        _measured.save()
