"""Who is served when from a budget that many share."""

import asyncio

from cutstream_server.budget import Budget


async def settle():
    """Lets every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def begin(budget, amount):
    """Starts to take a place and lets the wait, if there is one, begin."""
    task = asyncio.create_task(budget.take(amount))
    await settle()
    return task


async def test_things_over_the_count_wait():
    budget = Budget(max_count=2, max_amount=100)
    await budget.take(1)
    await budget.take(1)
    assert not (await begin(budget, 1)).done()


async def test_things_over_the_amount_wait():
    budget = Budget(max_count=9, max_amount=100)
    await budget.take(60)
    assert not (await begin(budget, 41)).done()
    assert budget.waiting == 1


async def test_a_released_place_is_free_again():
    budget = Budget(max_count=1, max_amount=100)
    (await budget.take(100)).release()
    assert (await begin(budget, 100)).done()


async def test_releasing_twice_gives_back_once():
    budget = Budget(max_count=2, max_amount=100)
    place = await budget.take(50)
    await budget.take(50)
    place.release()
    place.release()
    assert (budget.count, budget.amount) == (1, 50)


async def test_waiters_are_served_in_order():
    budget = Budget(max_count=1, max_amount=100)
    held, order = await budget.take(1), []

    async def wait(name, amount):
        place = await budget.take(amount)
        order.append(name)
        place.release()

    tasks = [asyncio.create_task(wait(name, amount)) for name, amount in (("large", 100), ("small", 1))]
    await settle()
    held.release()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_a_small_thing_does_not_overtake_a_large_one_that_waits():
    budget = Budget(max_count=9, max_amount=100)
    await budget.take(60)
    await begin(budget, 50)
    assert not (await begin(budget, 1)).done()


async def test_a_cancelled_waiter_passes_its_turn_on():
    budget = Budget(max_count=9, max_amount=100)
    await budget.take(60)
    large, small = await begin(budget, 90), await begin(budget, 30)
    large.cancel()
    await settle()
    assert small.done()


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_holds_nothing():
    budget = Budget(max_count=1, max_amount=100)
    held = await budget.take(1)
    waiter = await begin(budget, 1)
    held.release()
    waiter.cancel()
    await settle()
    assert (budget.count, budget.amount) == (0, 0)


async def test_what_a_place_gives_up_serves_the_next():
    budget = Budget(max_count=9, max_amount=100)
    place = await budget.take(100)
    waiter = await begin(budget, 40)
    place.change(amount=60)
    await settle()
    assert waiter.done()
    assert budget.amount == 100


async def test_a_place_that_no_longer_counts_lets_the_next_in_and_still_holds_its_amount():
    budget = Budget(max_count=1, max_amount=100)
    place = await budget.take(10)
    waiter = await begin(budget, 10)
    place.change(amount=30, counts=False)
    await settle()
    assert waiter.done()
    assert (budget.count, budget.amount) == (1, 40)
    place.release()
    assert (budget.count, budget.amount) == (1, 10)


async def test_a_place_may_grow_over_the_budget_and_others_wait_until_it_shrinks():
    budget = Budget(max_count=9, max_amount=100)
    place = await budget.take(10)
    place.change(amount=150)
    waiter = await begin(budget, 1)
    assert not waiter.done()
    place.release()
    await settle()
    assert waiter.done()
