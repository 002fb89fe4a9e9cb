"""A plugin of pytest, for `-p`: keep compiled code, also where the environment says otherwise (PYTHONDONTWRITEBYTECODE).

Each of several hundred processes that tests start would compile all that it imports, and each worker rewrite every `assert`:
a quarter of what all tests compute. Not for runs on sources that change within a second, as mutants do: what was compiled
is known by the time and size of its source.
"""

from __future__ import annotations

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
