# SPDX-License-Identifier: Apache-2.0
"""Subscriptions whose messages come in a thread of their own, not through rclpy's executor.

Whatever wakes the executor has it look at every service, timer and subscription of the node, twice,
which takes several times as long as to take a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Lock, Thread
from typing import Any, NoReturn

from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.subscription import Subscription

OnMessage = Callable[[bytes], None]
FOREVER = -1


class Receiver:
    """Receives serialized messages for one node, in one thread, which lives while it subscribes.

    Events of the subscriptions, such as of a publisher that came, are called by the executor.
    An exception of ``on_message`` is raised there, too, and nothing is received any more.
    ``subscribe`` and ``unsubscribe`` are for the executor's thread.

    Attributes:
        node: subscribes.
    """

    def __init__(self, node: Node) -> None:
        """Prepare; there is no thread before ``subscribe``."""
        self.node = node
        self._group = _NotForExecutors()
        self._lock = Lock()
        self._wanted: dict[Subscription[Any], OnMessage] = {}
        self._is_changed = False
        self._running: _Running | None = None
        node.context.on_shutdown(self._wake)

    def subscribe(
        self, kind: Any, topic: str, on_message: OnMessage, qos: Any, **options: Any
    ) -> Subscription[Any]:
        """Have ``on_message`` called with each message, in the receiver's thread.

        Args:
            kind: type of the messages.
            topic: can be remapped.
            on_message: must return soon, and not subscribe.
            qos: an ``rclpy.qos.QoSProfile``.
            options: of ``Node.create_subscription``.
        """
        subscription: Subscription[Any] = self.node.create_subscription(
            kind, topic, on_message, qos, callback_group=self._group, raw=True, **options
        )
        with self._lock:
            self._wanted[subscription] = on_message
            self._is_changed = True
        if self._running is None:
            self._running = _Running(self.node, self._run)
        self._wake()
        return subscription

    def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Remove a subscription; once this has returned, its function is not called any more."""
        with self._lock:
            del self._wanted[subscription]
            self._is_changed = True
        self._wake()
        if not self._wanted and self._running is not None:
            running, self._running = self._running, None
            running.end()
        self.node.destroy_subscription(subscription)

    def _wake(self) -> None:
        if self._running is not None:
            self._running.wake()

    # The thread

    def _run(self, running: _Running) -> None:
        try:
            while subscriptions := self._next():
                try:
                    self._receive(subscriptions, running)
                except InvalidHandle:
                    if not self._is_changed:
                        return  # the node was destroyed
        except Exception as error:  # a bug, which the executor's caller deals with
            running.call(partial(_raise, error))

    def _next(self) -> tuple[Subscription[Any], ...]:
        """What to wait for now; nothing in the end."""
        with self._lock:
            self._is_changed = False
            return tuple(self._wanted) if self.node.context.ok() else ()

    def _receive(self, subscriptions: tuple[Subscription[Any], ...], running: _Running) -> None:
        """Pass messages and events on, until something else is to be waited for."""
        with ExitStack() as held:
            waiting = _Waiting(self.node.context, running.woken, subscriptions, held)
            while not self._is_changed and self.node.context.ok():
                ready, events = waiting.wait()
                for subscription in ready:
                    self._take(subscription)
                for event in events:
                    running.call(event)

    def _take(self, subscription: Subscription[Any]) -> None:
        taken = subscription.handle.take_message(subscription.msg_type, True)
        with self._lock:
            on_message = self._wanted.get(subscription)
            if on_message is not None and taken is not None:
                on_message(taken[0])


class _NotForExecutors(CallbackGroup):
    """Keeps subscriptions out of what an executor waits for.

    Their events too: with Fast DDS, what waits for an event wakes for each message.
    """

    def can_execute(self, _entity: Any) -> bool:
        return False

    def beginning_execution(self, _entity: Any) -> bool:
        return False

    def ending_execution(self, _entity: Any) -> None:
        """Do nothing: none has begun."""


class _Waiting:
    """rcl's wait set for some subscriptions and their events, none of which goes meanwhile."""

    def __init__(
        self,
        context: Context,
        woken: GuardCondition,
        subscriptions: tuple[Subscription[Any], ...],
        held: ExitStack,
    ) -> None:
        """Make it; ``woken`` ends a wait, and ``held`` lets go of the subscriptions in the end.

        Raises:
            InvalidHandle: one of them was removed.
        """
        self._woken = woken
        self._subscriptions = subscriptions
        self._events = [event for each in subscriptions for event in each.event_handlers]
        needed: list[Any] = [context.handle, woken.handle, *(each.handle for each in subscriptions)]
        for each in (*needed, *self._events):
            held.enter_context(each)
        self._set: Any = rclpy_implementation.WaitSet(
            len(subscriptions), 1, 0, 0, 0, len(self._events), needed[0]
        )

    def wait(self) -> tuple[list[Subscription[Any]], list[Callable[[], object]]]:
        """Wait for a message, an event or ``woken``; return who has a message, and the events."""
        found = self._set
        found.clear_entities()
        for subscription in self._subscriptions:
            found.add_subscription(subscription.handle)
        for event in self._events:
            event.add_to_wait_set(found)
        found.add_guard_condition(self._woken.handle)
        found.wait(FOREVER)
        ready = [
            each
            for place, each in enumerate(self._subscriptions)
            if found.is_ready("subscription", place)
        ]
        events: list[Callable[[], object]] = [
            partial(event.callback, event.take_data())
            for event in self._events
            if event.is_ready(found)
        ]
        return ready, events


class _Running:
    """The thread of a receiver, what wakes it, and its way to the executor's thread.

    Attributes:
        woken: ends a wait.
    """

    def __init__(self, node: Node, run: Callable[[_Running], object]) -> None:
        """Start the thread, which calls ``run``."""
        self._node = node
        self._calls: deque[Callable[[], object]] = deque()
        self.woken = GuardCondition(None, None, context=node.context)
        self._called = node.create_guard_condition(self._call)
        self._thread = Thread(target=run, args=(self,), name="receiver", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let the thread look whether something has changed."""
        self.woken.trigger()

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called by the executor."""
        self._calls.append(function)
        self._called.trigger()

    def end(self) -> None:
        """Wait for the end of the thread, which has been told."""
        self._thread.join()
        self.woken.destroy()
        self._node.destroy_guard_condition(self._called)

    def _call(self) -> None:
        while self._calls:
            self._calls.popleft()()


def _raise(error: Exception) -> NoReturn:
    raise error
