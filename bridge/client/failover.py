"""Several services that can each do what is asked, tried in order.

Owns which one is asked next. What is asked must be safe to repeat with the same ids, as everything is here:
an answer that was lost is had from another service, or from the same one later.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, Generic, TypeVar

from lockstep.errors import Foreign, Internal, LockstepError, NoQuote, TimedOut, Unavailable, UnknownSwap

REST_MS: Final = 2_000
"""For how long nobody is asked again after nobody answered: who has another way takes it at once."""

_Client = TypeVar("_Client")
_Answer = TypeVar("_Answer")


class Failover(Generic[_Client]):
    """Asks one of several, starting with the one that answered last."""

    def __init__(self, clients: Sequence[_Client], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Ask these; in their order as long as none was away. ValueError if there are none."""
        if not clients:
            raise ValueError("name at least one service to ask")
        self._clients = tuple(clients)
        self._current = 0
        self._clock_s = clock_s
        self._silence: tuple[float, LockstepError] | None = None

    @property
    def current(self) -> _Client:
        """The one that is asked first."""
        return self._clients[self._current]

    async def ask(
        self, call: Callable[[_Client], Awaitable[_Answer]], *, is_waiting: bool = False
    ) -> _Answer:
        """Return the first answer, asking each once. A refusal is an answer: it is raised at once.

        If nobody answers, raises an error that is worth repeating if there was one, else the last; and so for
        REST_MS without asking. `is_waiting`: the call waits for something to come, and no answer in time does
        not mean that nobody is there.
        """
        if self._silence is not None and self._clock_s() < self._silence[0]:
            raise self._silence[1]
        failure: LockstepError | None = None
        heard: int | None = None
        first = self._current
        for turn in range(len(self._clients)):
            # Others ask meanwhile and may turn to another one, which is no reason to ask one twice.
            place = (first + turn) % len(self._clients)
            try:
                return await call(self._clients[place])
            except LockstepError as error:
                if not is_worth_asking_another(error):
                    raise
                if failure is None or not failure.retryable:
                    failure = error
                if heard is None and not _is_silence(error, is_waiting=is_waiting):
                    heard = place
            if self._current == place:
                self._current = (place + 1) % len(self._clients)
        # Who knows nothing is still a better start than who does not answer.
        self._current = self._current if heard is None else heard
        assert failure is not None, "there is somebody to ask"
        self._silence = (self._clock_s() + REST_MS / 1_000, failure) if heard is None else None
        raise failure

    async def ask_all(self, call: Callable[[_Client], Awaitable[_Answer]]) -> list[_Answer]:
        """Return the answers of all who answer, asking all at once. Raises any refusal.

        If nobody answers, raises as `ask`.
        """
        told = await asyncio.gather(*map(_awaited(call), self._clients), return_exceptions=True)
        answers: list[_Answer] = []
        silent: list[LockstepError] = []
        for each in told:
            if not isinstance(each, BaseException):
                answers.append(each)
            elif isinstance(each, LockstepError) and is_worth_asking_another(each):
                silent.append(each)
            else:
                raise each
        if not answers:
            raise next((each for each in silent if each.retryable), silent[-1])
        return answers


def is_worth_asking_another(error: LockstepError) -> bool:
    """Answer whether another service may know better: this one is away, broken, or has not heard of it."""
    return error.retryable or isinstance(error, Internal | Foreign | UnknownSwap | NoQuote)


def _is_silence(error: LockstepError, *, is_waiting: bool) -> bool:
    return isinstance(error, Unavailable) or (isinstance(error, TimedOut) and not is_waiting)


def _awaited(
    call: Callable[[_Client], Awaitable[_Answer]],
) -> Callable[[_Client], Coroutine[None, None, _Answer]]:
    """Return a call whose failure to start is one of its failures."""

    async def awaited(client: _Client) -> _Answer:
        return await call(client)

    return awaited
