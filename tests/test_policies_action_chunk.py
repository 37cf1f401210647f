import numpy as np

from policies.action_chunk import ActionChunk, ChunkQueue


def plan(first):
    return np.arange(first, first + 5, dtype=np.float32)[:, None]


def test_only_the_first_actions_of_a_plan_are_executed():
    queue = ChunkQueue(n_action_steps=3)
    queue.fill(plan(10))
    assert [queue.pop().item() for _ in range(3)] == [10, 11, 12]
    assert not queue


def test_a_new_plan_replaces_what_is_left():
    queue = ChunkQueue(n_action_steps=3)
    queue.fill(plan(10))
    queue.pop()
    queue.fill(plan(20))
    assert len(queue) == 3
    assert queue.pop().item() == 20


def test_two_episodes_do_not_share_a_queue():
    chunk = ActionChunk(
        np.stack(
            [
                plan(0),
                plan(100),
            ]
        )
    )
    queues = [ChunkQueue(2), ChunkQueue(2)]
    for row, queue in enumerate(queues):
        queue.fill(chunk[row])
    assert [queue.pop().item() for queue in queues] == [0, 100]
