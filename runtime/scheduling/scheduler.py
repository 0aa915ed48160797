"""Continuous batching: which tokens of which sequences run in the next step.

Sequences go by priority, and first come, first served among equals. Each step every running sequence that
decodes gets its next token; what the token budget has left goes to prompts, in order, so that a long one is
computed in chunks beside the others' decoding (chunked prefill; Agrawal et al., Sarathi-Serve, 2024). Then
waiting ones are admitted, behind what the page pool still holds of their beginnings.

When pages run out the last running sequence is preempted by recomputation: it gives its pages back and
computes its tokens again later, those at least whose pages are taken by others meanwhile. The first is never
preempted for one behind it, so there is always one that gets on. The scheduler never touches a device: what
it decides is a plain :class:`Step`.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from .limits import Limits
from .page_digests import PageDigests
from .page_pool import PagePool
from .sequence import Finished, Running, TokenHistory, Waiting
from .step import PageCopy, SequenceChunk, Step

__all__ = ["Scheduler"]

Rank = tuple[int, int, int]


class Scheduler:
    """Owns all sequences in flight and the page pool.

    The order of calls is: any number of :meth:`add` and :meth:`finish`; :meth:`schedule`; once the step has
    run, :meth:`advance`, and :meth:`fork`, :meth:`pause`, :meth:`append_token` or :meth:`finish` for each
    sequence that got logits.

    Attributes:
        num_preemptions: times a sequence lost its pages.
        num_prefix_tokens_queried: tokens of sequences when they were first admitted.
        num_prefix_tokens_hit: those of them that were found in the pages.
    """

    def __init__(self, limits: Limits, *, num_pages: int, page_size: int) -> None:
        self._limits = limits
        self._pool = PagePool(num_pages, page_size)
        # Both in order of rank.
        self._running: list[Running] = []
        self._waiting: list[Waiting] = []
        self._by_id: dict[int, Running | Waiting] = {}
        self.num_preemptions = 0
        self.num_prefix_tokens_queried = 0
        self.num_prefix_tokens_hit = 0

    @property
    def pool(self) -> PagePool:
        """The pages."""
        return self._pool

    @property
    def num_running(self) -> int:
        """Sequences that hold pages or are about to."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences not admitted yet, or preempted."""
        return len(self._waiting)

    @property
    def max_seq_len(self) -> int:
        """The longest sequence that can run, were it alone: the limit, or what all the pages hold."""
        return min(self._limits.max_seq_len, self._pool.num_pages * self._pool.page_size)

    def add(self, tokens: TokenHistory) -> None:
        """Queue a sequence, no longer than :attr:`max_seq_len`."""
        self._queue(Waiting(tokens, PageDigests(self._pool.page_size, tokens.salt)))

    def fork(self, parent_id: int, tokens: TokenHistory) -> None:
        """Begin a sequence whose tokens are those of a parent that has computed all of its own.

        It runs on the parent's pages, or waits if there is no seat.
        """
        parent = self._by_id[parent_id]
        if isinstance(parent, Running) and len(self._running) < self._limits.max_num_seqs:
            self._start(parent.fork(tokens, self._pool))
        else:
            self._queue(Waiting(tokens, parent.digests.copy()))

    def schedule(self) -> Step:
        """Decide the next step; it has no chunks when there is nothing to do."""
        self._clear_seats()
        step = self._plan()
        # Paused sequences keep pages and seats from those that they wait for.
        while not step.chunks and self._running and next(self._ready(), None) is not None:
            self._preempt(self._running[-1])
            step = self._plan()
        return step

    def advance(self, step: Step) -> None:
        """Take note that a step's keys and values are in the pages now."""
        for chunk in step.chunks:
            running = self._by_id[chunk.sequence_id]
            if isinstance(running, Running):
                running.advance(len(chunk.token_ids), self._pool, remembers=self._limits.caches_prefixes)

    def append_token(self, sequence_id: int, token_id: int) -> None:
        """Add the token chosen for a sequence; it runs in a next step."""
        tokens = self._by_id[sequence_id].tokens
        tokens.token_ids.append(token_id)
        tokens.is_paused = False

    def pause(self, sequence_id: int) -> None:
        """Let a sequence that has got its logits rest until it is given a token."""
        self._by_id[sequence_id].tokens.is_paused = True

    def finish(self, sequence_id: int) -> Finished | None:
        """End a sequence in whatever state it is, between steps; ``None`` where it has ended already."""
        match self._by_id.pop(sequence_id, None):
            case None:
                return None
            case Waiting() as waiting:
                del self._waiting[bisect_left(self._waiting, waiting.tokens.rank, key=_rank)]
                return Finished(waiting.tokens)
            case Running() as running:
                del self._running[bisect_left(self._running, running.tokens.rank, key=_rank)]
                return running.finish(self._pool)

    def check_integrity(self) -> None:
        """Raise :class:`RuntimeError` unless every page and every sequence is accounted for."""
        self._pool.check_integrity({r.tokens.sequence_id: r.pages for r in self._running})
        for running in self._running:
            if len(running.pages) < self._pool.pages_for(running.num_computed_tokens):
                raise RuntimeError(f"sequence {running.tokens.sequence_id} has fewer pages than tokens")
        if len(self._running) > self._limits.max_num_seqs:
            raise RuntimeError(f"{len(self._running)} sequences run in {self._limits.max_num_seqs} seats")
        for ranks in ([_rank(r) for r in self._running], [_rank(w) for w in self._waiting]):
            if ranks != sorted(set(ranks)):
                raise RuntimeError(f"sequences are out of order, or twice there: {ranks}")
        ids = {r.tokens.sequence_id for r in self._running} | {w.tokens.sequence_id for w in self._waiting}
        if ids != self._by_id.keys() or len(ids) != len(self._running) + len(self._waiting):
            raise RuntimeError("a sequence is lost, or both running and waiting")

    def _plan(self) -> Step:
        chunks: list[SequenceChunk] = []
        copies: list[PageCopy] = []
        num_preemptions = self.num_preemptions
        budget = self._limits.max_num_batched_tokens
        # Those further on that decode have their tokens of the budget set aside.
        num_decoding = sum(running.is_decoding for running in self._running)
        index = 0
        # Preemption shortens the list from its end, while it is walked from its beginning.
        while index < len(self._running):
            running = self._running[index]
            num_decoding -= running.is_decoding
            num_tokens = min(running.num_uncomputed_tokens, budget - num_decoding)
            index += 1
            if num_tokens <= 0 or running.tokens.is_paused:
                continue
            while (missing := running.num_missing_pages(num_tokens, self._pool)) > self._pool.num_free_pages:
                last = self._running[-1]
                num_decoding -= last is not running and last.is_decoding
                self._preempt(last)
                if last is running:
                    break
            else:
                if missing:
                    self._run(running, num_tokens, chunks, copies)
                else:
                    chunks.append(running.chunk(num_tokens))
                budget -= num_tokens
        if self.num_preemptions == num_preemptions:
            self._admit(budget, chunks, copies)
        return Step(tuple(chunks), tuple(copies))

    def _admit(self, budget: int, chunks: list[SequenceChunk], copies: list[PageCopy]) -> None:
        """Admit waiting sequences in order, while seats, budget and pages last."""
        for waiting in list(self._ready()):
            if len(self._running) >= self._limits.max_num_seqs or budget <= 0:
                return
            cached = waiting.cached_pages(self._pool) if self._limits.caches_prefixes else []
            num_taken = sum(not self._pool.num_readers(page) for page in cached)
            num_pages = self._pool.pages_for(len(waiting.tokens.token_ids)) - len(cached) + num_taken
            # Room for the whole prompt and for each running sequence to grow by a page: who is admitted
            # into less is preempted again soon, and all its work was in vain.
            if num_pages + len(self._running) > self._pool.num_free_pages:
                return
            if waiting.tokens.num_cached_tokens is None:
                self.num_prefix_tokens_queried += len(waiting.tokens.token_ids)
                self.num_prefix_tokens_hit += len(cached) * self._pool.page_size
            self._remove_waiting(waiting)
            running = waiting.admit(self._pool, cached)
            self._start(running)
            num_tokens = min(budget, running.num_uncomputed_tokens)
            self._run(running, num_tokens, chunks, copies)
            budget -= num_tokens

    def _run(
        self, running: Running, num_tokens: int, chunks: list[SequenceChunk], copies: list[PageCopy]
    ) -> None:
        copy = running.take_pages(num_tokens, self._pool)
        if copy is not None:
            copies.append(copy)
        chunks.append(running.chunk(num_tokens))

    def _clear_seats(self) -> None:
        """Preempt sequences of less urgent priorities for waiting ones that would find no room."""
        num_seats = self._limits.max_num_seqs - len(self._running)
        num_free_pages = self._pool.num_free_pages
        victims: list[Running] = []
        for waiting in self._ready():
            num_pages = self._pool.pages_for(len(waiting.tokens.token_ids))
            candidates = reversed(self._running[: len(self._running) - len(victims)])
            own: list[Running] = []
            while num_seats < 1 or num_pages + len(self._running) - len(victims) > num_free_pages:
                victim = next(candidates, None)
                if victim is None or victim.tokens.priority <= waiting.tokens.priority:
                    # Whatever was to make room for this one would lose its pages in vain.
                    num_victims = len(victims) - len(own)
                    for preempted in victims[:num_victims]:
                        self._preempt(preempted)
                    return
                own.append(victim)
                victims.append(victim)
                num_seats += 1
                num_free_pages += sum(self._pool.num_readers(page) == 1 for page in victim.pages)
            num_seats -= 1
            num_free_pages -= num_pages
        for preempted in victims:
            self._preempt(preempted)

    def _ready(self) -> Iterator[Waiting]:
        """Waiting sequences that may be admitted, in order."""
        return (waiting for waiting in self._waiting if not waiting.tokens.is_paused)

    def _start(self, running: Running) -> None:
        insort(self._running, running, key=_rank)
        self._by_id[running.tokens.sequence_id] = running

    def _queue(self, waiting: Waiting) -> None:
        insort(self._waiting, waiting, key=_rank)
        self._by_id[waiting.tokens.sequence_id] = waiting

    def _remove_waiting(self, waiting: Waiting) -> None:
        del self._waiting[bisect_left(self._waiting, waiting.tokens.rank, key=_rank)]

    def _preempt(self, running: Running) -> None:
        del self._running[bisect_left(self._running, running.tokens.rank, key=_rank)]
        self._queue(running.preempt(self._pool))
        self.num_preemptions += 1


def _rank(sequence: Running | Waiting) -> Rank:
    return sequence.tokens.rank
