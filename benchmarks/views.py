"""What one change costs where a tag has many objects: CPU time beside a tag that has few, in turns.

A node with a view, a buffer of the view's changes and one of the tag's changes, which are read after each change; the
first figure is how long it takes until all objects are there.

Run: python benchmarks/views.py [--few 100] [--many 100000] [--laps 40] [--changes 500]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from contextlib import ExitStack

from hakuban import LocalNode, ObjectDescriptor
from hakuban.events import Action

MOST = 1.2


class Tag:
    """A tag with so many objects, and whoever looks at it."""

    def __init__(self, size: int, contracts: ExitStack) -> None:
        self.size = size
        node = LocalNode()
        observe = contracts.enter_context(node.tag("weather").observe(int))
        self.view = contracts.enter_context(observe.view())
        self._buffers = [observe.changes().buffer(), self.view.changes().buffer()]
        began = time.thread_time()
        self._exposed = [
            contracts.enter_context(node.object((["weather"], number)).expose())
            for number in range(size)
        ]
        for number, expose in enumerate(self._exposed):
            expose.set_object_data(number)
        inserted = [{event.key for event in buffer.ready()} for buffer in self._buffers]
        self.begin = time.thread_time() - began
        assert [len(keys) for keys in inserted] == [size, size]
        assert len(self.view) == size

    def lap(self, changes: int, some: int) -> float:
        """Change so many objects that are spread over the tag, in turn; return CPU seconds a change."""
        step = self.size // some
        began = time.thread_time()
        for number in range(changes):
            which = number % some * step
            self._exposed[which].set_object_data(-number)
            for buffer in self._buffers:
                ((action, _),) = buffer.ready()
                assert action is Action.CHANGE
        spent = time.thread_time() - began
        assert self.view[ObjectDescriptor(["weather"], which)].data == -number
        return spent / changes


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--some", type=int, default=100, help="how many of them change")
    parser.add_argument("--laps", type=int, default=40)
    parser.add_argument("--changes", type=int, default=500)
    options = parser.parse_args()
    with ExitStack() as contracts:
        few, many = Tag(options.few, contracts), Tag(options.many, contracts)
        print(
            f"{few.size} objects and their first events: {few.begin * 1e6 / few.size:.0f} us each"
        )
        print(f"{many.size} objects and theirs: {many.begin * 1e6 / many.size:.0f} us each")
        gc.collect()
        gc.disable()  # it is not the change's, and looks at all that there is
        ratios, costs = [], []
        for number in range(options.laps):
            pair = [few, many] if number % 2 else [many, few]
            spent = {tag: tag.lap(options.changes, options.some) for tag in pair}
            ratios.append(spent[many] / spent[few])
            costs.append(spent[few])
        lower, middle, upper = statistics.quantiles(ratios, n=4)
        print(
            f"one change, {many.size} objects to {few.size}: {middle:.2f} times [{lower:.2f}, {upper:.2f}], n = "
            f"{options.laps} x {options.changes}; {statistics.median(costs) * 1e6:.1f} us with {few.size}"
        )
        gc.enable()
    return int(middle > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
