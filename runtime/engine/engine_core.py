"""The engine itself: scheduler, executor and sampler in a loop. One thread uses it; it blocks on nothing."""

import itertools
import logging
import secrets
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from ...ir.errors import CapacityError, IngotError
from ..execution.model_info import ModelInfo
from ..grammar.mask_worker import MaskWorker
from ..grammar.state import GrammarState
from ..sampling.choosing import choose
from ..sampling.sampler import Sampled, SamplingFailure, log_softmax
from ..scheduling.limits import Limits
from ..scheduling.scheduler import Scheduler
from ..scheduling.sequence import TokenHistory
from ..scheduling.step import Executor, SequenceChunk, Step, StepOutput
from ..text.tokenizer import Tokenizer
from .beam_group import BeamGroup
from .best_of import best_of
from .engine_stats import EngineStats, PhaseSeconds
from .flight import Flight
from .generation import Generation
from .jobs import Job, Place, Prompt, Work
from .outputs import Chunk
from .request import (
    Failure,
    GenerateRequest,
    Request,
    ScoreRequest,
    Scores,
    Sink,
    TextRequest,
    VectorRequest,
)
from .scoring import PromptScoring, Scoring

__all__ = ["EngineCore"]

_LOG = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


class EngineCore:
    """Takes requests, runs steps, and tells each request's sink what came of it."""

    def __init__(self, executor: Executor, tokenizer: Tokenizer, info: ModelInfo, limits: Limits) -> None:
        self._executor = executor
        self._tokenizer = tokenizer
        self._info = info
        self._scheduler = Scheduler(limits, num_pages=executor.num_pages, page_size=executor.page_size)
        self._flights: dict[int, Flight] = {}
        self._jobs: dict[int, Job] = {}
        self._masks = MaskWorker(executor.vocab_size)
        self._sequence_ids = itertools.count()
        self._seconds = PhaseSeconds()
        self._num_queued = 0
        self._num_steps = 0
        self._num_prompt_tokens = 0
        self._num_generated_tokens = 0
        self._untold: list[tuple[Place, Sampled]] = []
        """Tokens that were chosen on a device and are told of while it computes the next ones."""

    @property
    def has_work(self) -> bool:
        """Some request is in flight."""
        return bool(self._flights)

    @property
    def num_queued(self) -> int:
        """Requests that have not started; any thread may ask."""
        return self._num_queued

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, for its counts and its :meth:`~.Scheduler.check_integrity`."""
        return self._scheduler

    @property
    def stats(self) -> EngineStats:
        """Counts; any thread may ask."""
        scheduler, pool, seconds = self._scheduler, self._scheduler.pool, self._seconds
        return EngineStats(
            num_requests=len(self._flights),
            num_queued=self._num_queued,
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            num_pages=pool.num_pages,
            num_used_pages=pool.num_used_pages,
            num_cached_pages=pool.num_cached_pages,
            num_steps=self._num_steps,
            num_prompt_tokens=self._num_prompt_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_preemptions=scheduler.num_preemptions,
            num_prefix_tokens_queried=scheduler.num_prefix_tokens_queried,
            num_prefix_tokens_hit=scheduler.num_prefix_tokens_hit,
            schedule_seconds=seconds.schedule,
            execute_seconds=seconds.execute,
            sample_seconds=seconds.sample,
            grammar_seconds=seconds.grammar,
            emit_seconds=seconds.emit,
        )

    def add(self, handle: int, request: Request, sink: Sink, *, arrived_at: float | None = None) -> None:
        """Take a request that has been checked.

        Args:
            handle: the caller's name for it, never used before.
            request: what is asked.
            sink: takes what comes of it.
            arrived_at: when it was submitted, by ``time.perf_counter``; ``None``: now.
        """
        if isinstance(request, VectorRequest):
            raise TypeError("a VectorRequest is no request for text")
        if isinstance(request, GenerateRequest) and request.params.ranks_choices:
            request, sink = best_of(request, sink)
        try:
            work = self._work(request)
        except MemoryError as error:
            sink(Failure(CapacityError(f"the machine lacks the memory for the answer: {error}", "prompt")))
            return
        num_choices = request.params.n if isinstance(request, GenerateRequest) else 1
        arrived_at = perf_counter() if arrived_at is None else arrived_at
        flight = Flight(handle, sink, len(request.token_ids), num_choices, arrived_at)
        self._flights[handle] = flight
        self._num_queued += 1
        self._num_prompt_tokens += flight.num_prompt_tokens
        job = self._open(flight, self._history(handle, request), work)
        self._scheduler.add(job.history)

    def abort(self, handle: int) -> None:
        """End a request early, its choices with ``abort``; one that has ended is no error."""
        self._tell_rest()
        flight = self._flights.get(handle)
        if flight is None:
            return
        for sequence_id in sorted(flight.sequence_ids):
            job = self._jobs.get(sequence_id)
            match job and job.work:
                case Scoring():
                    self._fail(flight, IngotError("the request was aborted before its scores were done"))
                case Generation() as generation:
                    self._emit(flight, generation.abort(), sequence_id)
                case Prompt() | BeamGroup() as work:
                    self._end_sequences(flight)
                    for generation in work.generations:
                        self._emit(flight, generation.abort())

    def abort_all(self) -> None:
        """End every request in flight."""
        for handle in list(self._flights):
            self.abort(handle)

    def give_up(self, error: Exception) -> None:
        """Tell every request in flight of an error after which nothing here can be relied on."""
        flights = list(self._flights.values())
        self._flights.clear()
        self._jobs.clear()
        for flight in flights:
            flight.sink(Failure(error))

    def step(self) -> None:
        """Run one step, if there is anything to run."""
        began = perf_counter()
        step = self._scheduler.schedule()
        self._start_flights(step, began)
        scheduled = perf_counter()
        self._seconds.schedule += scheduled - began
        if not step.chunks:
            self._tell_rest()
            return
        guided = self._guided(step)
        self._masks.begin([state for _, state in guided])
        try:
            output = self._executor.run(step)
        except Exception as error:
            _LOG.exception("the executor failed")
            self._tell_rest()
            self._fail_step(step, error)
            return
        executed = perf_counter()
        self._seconds.execute += executed - scheduled
        self._tell_rest()
        told = perf_counter()
        self._num_steps += 1
        self._scheduler.advance(step)
        places = self._distribute(step, output)
        distributed = perf_counter()
        self._seconds.schedule += distributed - told
        if guided:
            places = self._guide(places, guided)
            self._seconds.grammar += perf_counter() - distributed
        if places:
            self._choose(places, output)

    def close(self) -> None:
        """End what threads there are besides the caller's."""
        self._masks.close()

    def _work(self, request: TextRequest) -> Prompt | Scoring:
        if isinstance(request, ScoreRequest):
            return Scoring(len(request.token_ids), self._executor.vocab_size)
        params = request.params
        seed = secrets.randbits(64) if params.seed is None else params.seed
        generations = [
            Generation(
                request,
                index=index,
                seed=seed,
                tokenizer=self._tokenizer,
                info=self._info,
                max_seq_len=self._scheduler.max_seq_len,
            )
            for index in range(params.n)
        ]
        if params.prompt_logprobs is None:
            return Prompt(generations, None)
        return Prompt(generations, PromptScoring(request.token_ids, params.prompt_logprobs))

    def _history(self, handle: int, request: TextRequest) -> TokenHistory:
        tokens = TokenHistory(next(self._sequence_ids), list(request.token_ids), arrival=handle)
        if isinstance(request, GenerateRequest):
            tokens.priority = request.priority
            tokens.salt = request.cache_salt.encode("utf-8", "surrogatepass")
            tokens.num_scored_tokens = 0 if request.params.prompt_logprobs is None else len(tokens.token_ids)
        else:
            tokens.num_scored_tokens = len(tokens.token_ids)
        return tokens

    def _open(self, flight: Flight, history: TokenHistory, work: Work) -> Job:
        job = Job(history, flight, work)
        self._jobs[history.sequence_id] = job
        flight.sequence_ids.add(history.sequence_id)
        return job

    def _guided(self, step: Step) -> list[tuple[Generation, GrammarState]]:
        """Who will choose tokens by a grammar after this step, and where they stand in it."""
        generations: list[Generation] = []
        for chunk in step.chunks:
            job = self._jobs[chunk.sequence_id]
            if job.is_whole_after(chunk):
                match job.work:
                    case Generation() as generation:
                        generations.append(generation)
                    case Prompt() as prompt:
                        generations += prompt.generations
        return [
            (generation, generation.grammar) for generation in generations if generation.grammar is not None
        ]

    def _guide(self, places: list[Place], guided: list[tuple[Generation, GrammarState]]) -> list[Place]:
        """Tell the sampler which tokens are allowed; return the places for which that is known."""
        sequence_ids = {id(place.generation): place.sequence_id for place in places}
        for (generation, _), mask in zip(guided, self._masks.masks(), strict=True):
            if not isinstance(mask, IngotError):
                generation.sampling.allowed_tokens = mask
            elif (job := self._jobs.get(sequence_ids.get(id(generation), -1))) is not None:
                self._fail(job.flight, mask)
        return [place for place in places if place.sequence_id in self._jobs]

    def _start_flights(self, step: Step, now: float) -> None:
        for chunk in step.chunks:
            job = self._jobs[chunk.sequence_id]
            if job.flight.started_at is None:
                job.flight.started_at = now
                job.flight.num_cached_tokens = job.history.num_cached_tokens or 0
                self._num_queued -= 1

    def _distribute(self, step: Step, output: StepOutput) -> list[Place]:
        """Hand each sequence its logits; return where tokens are to be chosen."""
        places: list[Place] = []
        row = 0
        for chunk in step.chunks:
            num_rows = chunk.num_logit_rows
            job = self._jobs.get(chunk.sequence_id)
            if job is None:
                row += num_rows
                continue  # a sibling's failure has ended it
            match job.work:
                case Scoring() as scoring:
                    scoring.add(chunk.num_computed_tokens, output.logits[row : row + num_rows])
                    if job.is_whole_after(chunk):
                        self._end_sequences(job.flight)
                        self._end_flight(job.flight)
                        job.flight.sink(Scores(scoring.log_probs))
                case Prompt() as prompt:
                    if self._score(job, prompt, chunk, row, output) and job.is_whole_after(chunk):
                        places += self._part(job, prompt, row + num_rows - 1, output)
                case BeamGroup() as group:
                    if job.is_whole_after(chunk):
                        self._search(job, group, output.rows([row + num_rows - 1])[0])
                case Generation() as generation:
                    if job.is_whole_after(chunk):
                        places.append(Place(row + num_rows - 1, chunk.sequence_id, generation))
            row += num_rows
        return places

    def _score(self, job: Job, prompt: Prompt, chunk: SequenceChunk, row: int, output: StepOutput) -> bool:
        """Take the log-probabilities of a prompt's own tokens; ``False`` where that failed its request."""
        try:
            if prompt.scoring is not None:
                rows = output.logits[row : row + chunk.num_logit_rows]
                prompt.scoring.add(chunk.num_computed_tokens, rows)
        except IngotError as error:
            self._fail(job.flight, error)
            return False
        return True

    def _part(self, job: Job, prompt: Prompt, row: int, output: StepOutput) -> list[Place]:
        """Give each choice a sequence of its own, now that the prompt they share is computed."""
        first, *others = prompt.generations
        sequence_id, prompt_ids = job.history.sequence_id, job.history.token_ids
        job.history.num_scored_tokens = 0
        if prompt.scoring is not None:
            job.flight.sink(first.prompt_logprobs(prompt_ids, prompt.scoring.entries))
        if first.params.max_tokens == 0:
            self._end_sequences(job.flight)
            for generation in prompt.generations:
                self._emit(job.flight, generation.end_empty())
            return []
        if first.params.beam_width is not None:
            job.work = group = BeamGroup(prompt.generations, sequence_id)
            self._search(job, group, output.rows([row])[0])
            return []
        job.work = first
        places = [Place(row, sequence_id, first)]
        for generation in others:
            places.append(Place(row, self._fork(job, generation), generation))
        return places

    def _fork(self, parent: Job, work: Work) -> int:
        """Begin a sequence behind the tokens of another, all computed; return its id."""
        twin = replace(
            parent.history,
            sequence_id=next(self._sequence_ids),
            token_ids=parent.history.token_ids.copy(),
        )
        self._open(parent.flight, twin, work)
        self._scheduler.fork(parent.history.sequence_id, twin)
        return twin.sequence_id

    def _search(self, job: Job, group: BeamGroup, logits: Floats) -> None:
        """Give a beam its logits; where it is the last of its search to get them, all take a step."""
        flight = job.flight
        if not np.isfinite(logits.max()):
            self._fail(flight, IngotError("the model gave logits that are not finite numbers"))
            return
        flight.first_token_at = flight.first_token_at or perf_counter()
        self._scheduler.pause(job.history.sequence_id)
        if not group.add(job.history.sequence_id, log_softmax(logits[None])[0]):
            return
        steps = group.advance()
        if group.is_done:
            self._end_sequences(flight)
            answers = group.answers()
            num_tokens = sum(len(answer.token_ids) for answer in answers)
            flight.num_generated_tokens += num_tokens
            self._num_generated_tokens += num_tokens
            for answer in answers:
                self._emit(flight, answer)
            return
        parents = [group.sequence_ids[step.parent] for step in steps]
        # First, as they leave seats and pages to the others.
        for sequence_id in set(group.sequence_ids) - set(parents):
            self._end_sequence(sequence_id)
        beams: list[int] = []
        for parent in parents:
            beams.append(self._fork(self._jobs[parent], group) if parent in beams else parent)
        for sequence_id, step in zip(beams, steps, strict=True):
            self._scheduler.append_token(sequence_id, step.token_id)
        group.sequence_ids = beams

    def _choose(self, places: list[Place], output: StepOutput) -> None:
        """Choose a token in each place, and tell of it."""
        began = perf_counter()
        states = [place.generation.sampling for place in places]
        chosen = choose(output, [place.row for place in places], states)
        sampled_at = perf_counter()
        if output.chooser is None:
            self._seconds.sample += sampled_at - began
        else:
            self._seconds.execute += sampled_at - began  # what the device still computed is in it
        for place, sampled in zip(places, chosen, strict=True):
            job = self._jobs.get(place.sequence_id)
            if job is None:
                continue  # a sibling's failure has ended it
            if isinstance(sampled, SamplingFailure):
                self._fail(job.flight, sampled.error)
                continue
            self._scheduler.append_token(place.sequence_id, sampled.token_id)
            self._num_generated_tokens += 1
            job.flight.num_generated_tokens += 1
            if job.flight.first_token_at is None:
                job.flight.first_token_at = sampled_at
            # What need not be known for the next step can wait until a device is busy with it.
            if output.chooser is not None and place.generation.goes_on_after(sampled.token_id):
                self._untold.append((place, sampled))
            else:
                self._tell(job, place, sampled)
        self._seconds.emit += perf_counter() - sampled_at

    def _tell(self, job: Job, place: Place, sampled: Sampled) -> None:
        """Make text of a token, and hand it on."""
        try:
            chunk = place.generation.accept(sampled)
        except IngotError as error:
            self._fail(job.flight, error)
            return
        if chunk is not None:
            self._emit(job.flight, chunk, place.sequence_id)

    def _tell_rest(self) -> None:
        """Tell of what waited."""
        began = perf_counter()
        untold, self._untold = self._untold, []
        for place, sampled in untold:
            job = self._jobs.get(place.sequence_id)
            if job is not None:  # a sibling's failure has not ended it
                self._tell(job, place, sampled)
        self._seconds.emit += perf_counter() - began

    def _emit(self, flight: Flight, chunk: Chunk, sequence_id: int | None = None) -> None:
        """Hand a chunk on; with its choice's end, the choice's sequence and perhaps the request end too."""
        if chunk.finish_reason is not None:
            if sequence_id is not None:
                self._end_sequence(sequence_id)
            flight.num_open_choices -= 1
            if not flight.num_open_choices:
                self._end_flight(flight)
                chunk = replace(chunk, usage=flight.usage, timings=flight.timings(perf_counter()))
        flight.sink(chunk)

    def _end_sequence(self, sequence_id: int) -> None:
        """Free what a sequence holds."""
        self._jobs.pop(sequence_id).flight.sequence_ids.discard(sequence_id)
        self._scheduler.finish(sequence_id)

    def _end_sequences(self, flight: Flight) -> None:
        for sequence_id in sorted(flight.sequence_ids):
            self._end_sequence(sequence_id)

    def _end_flight(self, flight: Flight) -> None:
        del self._flights[flight.handle]
        self._num_queued -= flight.started_at is None

    def _fail(self, flight: Flight, error: Exception) -> None:
        self._end_sequences(flight)
        self._end_flight(flight)
        flight.sink(Failure(error))

    def _fail_step(self, step: Step, cause: Exception) -> None:
        for chunk in step.chunks:
            job = self._jobs.get(chunk.sequence_id)
            if job is not None:
                error = IngotError(f"the executor failed: {type(cause).__name__}: {cause}")
                error.__cause__ = cause
                self._fail(job.flight, error)
