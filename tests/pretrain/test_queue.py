"""The queue: first in first out, only what could be read, only after the step."""

import torch

from pretrain.objectives.queue import Queue


def push(queue: Queue, values: list[float], keep: list[bool] | None = None) -> None:
    rows = torch.tensor(values)[:, None].repeat(1, 2)
    queue.add(rows, torch.tensor(keep or [True] * len(values)))
    queue.take(lambda x: x)


def held(queue: Queue) -> list[float]:
    rows, filled = queue.read()
    return rows[filled, 0].tolist()


def test_first_in_first_out_around_the_end() -> None:
    queue = Queue(5, 2)
    push(queue, [1, 2, 3])
    assert held(queue) == [1, 2, 3]
    push(queue, [4, 5, 6])
    assert held(queue) == [6, 2, 3, 4, 5]
    push(queue, [7])
    assert held(queue) == [6, 7, 3, 4, 5]
    push(queue, [float(i) for i in range(10, 22)])
    assert sorted(held(queue)) == [17, 18, 19, 20, 21]


def test_what_could_not_be_read_is_passed_over() -> None:
    queue = Queue(3, 2)
    push(queue, [1, 2, 3, 4], [True, False, False, True])
    assert held(queue) == [1, 4]
    push(queue, [5, 6], [False, False])
    assert held(queue) == [1, 4]


def test_rows_wait_for_the_end_of_the_step_in_float32_without_gradients() -> None:
    queue = Queue(4, 2)
    rows = torch.full((2, 2), 0.3, dtype=torch.bfloat16, requires_grad=True)
    queue.add(rows, torch.ones(2))
    assert held(queue) == []
    queue.add(rows + 1, torch.ones(2))
    queue.take(lambda x: x)
    assert len(held(queue)) == 4
    assert queue.rows.dtype is torch.float32
    assert not queue.rows.requires_grad
    queue.add(rows, torch.ones(2))
    queue.drop()
    before = queue.rows.clone()
    queue.take(lambda x: x)
    assert torch.equal(queue.rows, before)


def test_its_state_is_the_modules() -> None:
    queue = Queue(4, 2)
    push(queue, [1, 2, 3])
    other = Queue(4, 2)
    other.load_state_dict(queue.state_dict())
    for one in (queue, other):
        push(one, [4, 5])
    assert held(other) == held(queue) == [5, 2, 3, 4]
