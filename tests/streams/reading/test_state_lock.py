import threading
import time

from streams.reading.state_lock import PhaseFairLock

DEADLINE_S = 20.0


def run_threads(*works):
    """Run each in a thread; re-raise what any raised; fail rather than hang."""
    errors: list[BaseException] = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def test_no_reader_sees_a_write_in_progress():
    lock = PhaseFairLock()
    pair = [0, 0]
    stop = threading.Event()
    reads = [0]

    def write():
        for i in range(1, 400):
            with lock.writing():
                pair[0] = i
                time.sleep(0)  # invites a switch between the halves
                pair[1] = i
        stop.set()

    def read():
        while not stop.is_set():
            with lock.reading():
                first = pair[0]
                time.sleep(0)
                assert first == pair[1] == pair[0]
                reads[0] += 1

    run_threads(write, read, read, read)
    assert reads[0] > 0


def test_writers_exclude_each_other():
    lock = PhaseFairLock()
    total = [0]

    def write():
        for _ in range(300):
            with lock.writing():
                seen = total[0]
                time.sleep(0)
                total[0] = seen + 1

    run_threads(write, write, write)
    assert total[0] == 900


def test_a_busy_writer_does_not_starve_readers():
    """Between two reads of one reader at most a few writes may pass: the lock alternates."""
    lock = PhaseFairLock()
    stop = threading.Event()
    writes = [0]
    waited: list[int] = []

    def write():
        while not stop.is_set():
            with lock.writing():
                writes[0] += 1
                time.sleep(0.001)

    def read():
        for _ in range(30):
            before = writes[0]
            with lock.reading():
                waited.append(writes[0] - before)
        stop.set()

    run_threads(write, read)
    # The phase that was running, and at most one more that had queued before us.
    assert max(waited) <= 2


def test_busy_readers_do_not_starve_the_writer():
    lock = PhaseFairLock()
    stop = threading.Event()
    reads = [0]
    waited: list[int] = []

    def read():
        while not stop.is_set():
            with lock.reading():
                reads[0] += 1
                time.sleep(0.001)

    def write():
        for _ in range(30):
            before = reads[0]
            with lock.writing():
                waited.append(reads[0] - before)
        stop.set()

    run_threads(read, read, read, write)
    # Readers that held the lock finish; none may enter before the waiting writer.
    assert max(waited) <= 6


def test_readers_share():
    lock = PhaseFairLock()
    inside = threading.Barrier(3)

    def read():
        with lock.reading():
            inside.wait(DEADLINE_S)  # passes only when all three are in at once

    run_threads(read, read, read)


def test_a_waiting_reader_gets_in_between_two_writers():
    lock = PhaseFairLock()
    order: list[str] = []
    lock.acquire_write()

    def read():
        with lock.reading():
            order.append("read")

    def write():
        with lock.writing():
            order.append("write")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not lock._readers_waiting:
        time.sleep(0.001)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    while not lock._writers_waiting:
        time.sleep(0.001)
    lock.release_write()
    reader.join(DEADLINE_S)
    writer.join(DEADLINE_S)
    assert order == ["read", "write"]
