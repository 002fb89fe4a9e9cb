"""Lets hatch find the interpreters of pyenv, and skip those that are missing instead of downloading them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatch.env.collectors.plugin.interface import EnvironmentCollectorInterface


class InstalledPythons(EnvironmentCollectorInterface):
    """Changes the environment of hatch itself, and no environment's configuration."""

    def get_initial_config(self) -> dict[str, dict[str, Any]]:
        """Set what hatch and uv read when they look for interpreters."""
        os.environ.setdefault("HATCH_PYTHON_VARIANT_CPU", "none")  # no download matches
        os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
        versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
        found = sorted(versions.glob("3.*/bin/python3.*"))
        folders = [str(path.parent) for path in found if path.name.count(".") == 1]
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])
        os.environ["HAKUBAN_HATCH"] = sys.executable  # by which `hatch run matrix` runs hatch again
        return {}
