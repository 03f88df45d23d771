"""Decode, inference and encode at the same time: bounded hand-over between two threads.

The method itself stays on the caller's thread, because Paddle and oneDNN keep state by thread.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def ahead(items: Iterable[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items, which a thread of their own takes from ``items`` up to ``depth`` ahead.

    An error of ``items`` is raised where the item would have been. When this generator ends or is
    closed, ``items`` is closed too and the thread is gone.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="studykit-ahead") as thread:
        waiting = deque(thread.submit(next, source, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, source, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            if hasattr(source, "close"):
                thread.submit(source.close).result()


def behind(
    consume: Callable[[Iterator[Item]], Result], items: Iterable[Item], depth: int = 4
) -> Result:
    """Return ``consume(items)``, where a thread consumes what is computed here, ``depth`` behind.

    An error of ``items`` is raised inside ``consume`` as well, so that it can clean up; one of
    ``consume`` stops ``items``, which are closed. Either is raised here, with the thread gone.
    """
    handed: queue.SimpleQueue = queue.SimpleQueue()
    free, ended = threading.Semaphore(depth), threading.Event()

    def received() -> Iterator[Item]:
        while (item := handed.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
            free.release()

    def consumed() -> Result:
        try:
            return consume(received())
        finally:
            ended.set()
            free.release()

    source = iter(items)
    closing = contextlib.closing(source) if hasattr(source, "close") else contextlib.nullcontext()
    with ThreadPoolExecutor(1, thread_name_prefix="studykit-behind") as thread, closing:
        result = thread.submit(consumed)
        try:
            for item in source:
                free.acquire()
                if ended.is_set():
                    break
                handed.put(item)
            handed.put(_END)
        except BaseException as error:
            handed.put(_Failure(error))
            result.exception()  # wait until it has cleaned up
            raise
        return result.result()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
