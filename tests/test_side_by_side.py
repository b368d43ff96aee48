"""Work by several threads: in order, with few results waiting, and ended by a signal at any moment."""

import subprocess
import sys
import time

import pytest

from facetalk.side_by_side import side_by_side


def test_results_come_in_order_and_few_wait():
    begun = []

    def work(item, over):
        time.sleep(0.002 * (item % 3))
        return item * item

    def items():
        for item in range(20):
            begun.append(item)
            yield item

    found = []
    for result in side_by_side(work, items(), 3, 4):
        assert len(begun) <= len(found) + 5
        found.append(result)
    assert found == [item * item for item in range(20)]


@pytest.mark.parametrize("error", [ValueError("mine"), TimeoutError("mine")])
def test_an_error_ends_the_rest(error):
    ended = []

    def work(item, over):
        if item == 1:
            raise error
        while not over():
            time.sleep(0.001)
        ended.append(item)

    with pytest.raises(type(error), match="mine"):
        # Item 0 ends only once the error of item 1, asked for first, was raised.
        for _ in side_by_side(work, [1, 0], 2, 1):
            pass
    assert ended in ([], [0])


SIGNALLED = """
import signal, threading, time
from facetalk.side_by_side import side_by_side

enter, left = threading.Condition.__enter__, [0]

def entered(self):
    found = enter(self)
    if threading.get_ident() == threading.main_thread().ident:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)
    return found

threading.Condition.__enter__ = entered
signal.signal(signal.SIGINT, signal.default_int_handler)
ended = 0
for moment in range(1, 60):
    left[0] = moment
    try:
        assert list(side_by_side(lambda i, over: time.sleep(0.001) or i, range(6), 2, 2)) == list(range(6))
    except KeyboardInterrupt:
        ended += 1
    left[0] = 0
assert threading.active_count() == 1
print(ended)
"""


def test_a_signal_between_taking_a_lock_and_giving_it_back_ends_the_work():
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
