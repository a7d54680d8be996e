"""Count words in parallel and add them up: a chord, in one program that works and waits.

Run ``python word_count.py``. It prints::

    4 the
    2 dog
    2 fox
    1 and
    1 brown
    1 lazy
    1 quick

Another engine is another URL: ``QUEUEKIT_BROKER=redis://localhost/0 python word_count.py``.
"""

import threading
from collections import Counter

from queuekit import Queuekit, chord, group

app = Queuekit()
TEXTS = ["the quick brown fox", "the lazy dog", "the fox and the dog"]


@app.task(retries=3)
def count(text: str) -> dict[str, int]:
    """Return how often each word occurs."""
    return dict(Counter(text.split()))


@app.task
def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    """Return the counts of all texts together."""
    return dict(sum(map(Counter, counts), Counter()))


def main() -> None:
    """Work in one thread, send and wait in another."""
    worker = app.worker(concurrency=4)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        total = chord(group(count.s(text) for text in TEXTS), add_up.s()).send().get(timeout=60)
    finally:
        worker.stop()
        thread.join()
    for word, number in sorted(total.items(), key=lambda item: (-item[1], item[0])):
        print(number, word)


if __name__ == "__main__":
    main()
