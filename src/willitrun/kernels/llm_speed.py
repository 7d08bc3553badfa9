"""Speed of a language model on accelerators: work x inverse rate x efficiency, one smooth maximum per phase.

One decode step of B sequences (T = B (1 + draft) tokens, depth x, ranks t, stages and data groups divide B):

    memory  = (dense + lm_head) k_w / (t BW) + experts hit k_e / (shards BW) + B (KV(x) + state) k_kv / BW
    issue   = (bytes read k_f + weights touched k_u) / (t ISSUE)
    compute = 2 T active k_c / (t PEAK) + 4 T width x k_a / (t PEAK16)
    step    = (memory^4 + issue^4 + compute^4)^(1/4) + host + collectives + o_step + o_layer L + o_moe L_moe + o_seq B

Prefill runs the prompt in micro-batches with the same parts; TPOT, TTFT and throughput follow from the two. Every
coefficient k comes from `LlmCoefficients`; nothing here is fitted. Blocks of rows and single rows run the same code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from willitrun.frozen import frozen
from willitrun.kernels.elementwise import exists, maximum, minimum, where
from willitrun.kernels.llm_decode import BOUNDS, Terms, time_decode_step
from willitrun.kernels.llm_inputs import LlmCoefficients, LlmLoad, LlmRates, LlmWork
from willitrun.kernels.llm_prefill import time_prefill

FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int8]

__all__ = ["BOUNDS", "LlmSpeed", "effective_concurrency", "predict"]


@frozen(eq=False)
class LlmSpeed:
    """Predicted speed as columns.

    Attributes
    ----------
    step_s
        One decode step at the effective concurrency [s]; equal to the sum of ``terms``.
    time_per_output_token_s
        Mean time between tokens of one sequence, other sequences' prefills included [s].
    decode_tokens_per_s
        Of one sequence, without prefills in between [tokens/s].
    throughput_tokens_per_s
        Output tokens of all sequences [tokens/s].
    prefill_s, prefill_tokens_per_s
        Time of the prompts that are prefilled together, and their rate [s], [tokens/s].
    loaded_time_to_first_token_s
        At the concurrency; NaN where the scheduler or the KV pool cannot hold that many sequences [s].
    effective_concurrency
        Sequences that fit the scheduler and the KV pool.
    bound
        Index into `BOUNDS`: what the decode step mostly waits for.
    bound_of_prefill
        Gives the same of a prefill, which is all that an encoder does.
    first_token
        Gives the time to the first token of a request on an idle server [s].
    step_parts, prefill_parts
        Give the terms when somebody asks: a sweep never does, and they cost as much as the prediction.
    step_work
        Gives what one rank reads and computes in a decode step: a point of the roofline [bytes], [FLOP].
    """

    step_s: FloatArray
    time_per_output_token_s: FloatArray
    decode_tokens_per_s: FloatArray
    throughput_tokens_per_s: FloatArray
    prefill_s: FloatArray
    prefill_tokens_per_s: FloatArray
    loaded_time_to_first_token_s: FloatArray
    effective_concurrency: FloatArray
    bound: CodeArray
    bound_of_prefill: Callable[[], CodeArray]
    first_token: Callable[[], FloatArray]
    step_parts: Callable[[], Terms]
    prefill_parts: Callable[[], Terms]
    step_work: Callable[[], tuple[FloatArray, FloatArray]]

    @property
    def time_to_first_token_s(self) -> FloatArray:
        """Of a request on an idle server [s]."""
        return self.first_token()

    @property
    def prefill_bound(self) -> CodeArray:
        """Index into `BOUNDS`: what the prefill mostly waits for."""
        return self.bound_of_prefill()

    @property
    def terms(self) -> Terms:
        """(name, seconds) pairs that sum to ``step_s``."""
        return self.step_parts()

    @property
    def step_read_bytes(self) -> FloatArray:
        """What one rank reads in a decode step [bytes]."""
        return self.step_work()[0]

    @property
    def step_flop(self) -> FloatArray:
        """What one rank computes in a decode step [FLOP]."""
        return self.step_work()[1]

    @property
    def prefill_terms(self) -> Terms:
        """(name, seconds) pairs that sum to ``prefill_s``."""
        return self.prefill_parts()


def predict(work: LlmWork, rates: LlmRates, load: LlmLoad, coefficients: LlmCoefficients) -> LlmSpeed:
    """Return the speed of LLM inference.

    Parameters
    ----------
    work, rates, load, coefficients
        Columns of shape (n,) or (1,) that broadcast against each other.

    Returns
    -------
    LlmSpeed
        Columns; see the class for units. ``sum(terms) == step_s`` to rounding.
    """
    concurrency = effective_concurrency(work, load)
    step = time_decode_step(work, rates, load, coefficients, concurrency)
    prefill_s, added_s, prefill_parts, prefill_bound = time_prefill(work, rates, load, coefficients)

    own_s = step.total_s / (1.0 + load.draft_tokens * load.acceptance)
    one_prefill_s = prefill_s / load.prefill_sequences
    others = maximum(concurrency / load.data - 1.0, 0.0)
    delayed = load.interference * others
    outputs = maximum(load.output_tokens, 1.0)
    per_token_s = own_s + delayed / (load.prefill_sequences * outputs) * added_s

    arrival_s = coefficients.request + step.total_s
    taken_s = added_s / load.prefill_sequences
    turn_s = wait_turn(taken_s, others, outputs * per_token_s)
    burst = coefficients.queue
    waiting_s = load.interference * ((1.0 - burst) * turn_s + burst * (0.5 * others * taken_s))
    noticed_s = coefficients.request + (coefficients.notice + load.held_steps) * step.total_s
    loaded_s = noticed_s + one_prefill_s + waiting_s
    saturated = concurrency < load.concurrency
    prompt = load.prompt_tokens * load.prefill_sequences
    return LlmSpeed(
        step_s=step.total_s,
        time_per_output_token_s=per_token_s,
        decode_tokens_per_s=1.0 / own_s,
        throughput_tokens_per_s=concurrency / per_token_s,
        prefill_s=prefill_s,
        prefill_tokens_per_s=prompt / prefill_s,
        loaded_time_to_first_token_s=where(saturated, np.nan, loaded_s) if exists(saturated) else loaded_s,
        effective_concurrency=concurrency,
        bound=step.bound,
        bound_of_prefill=prefill_bound,
        first_token=lambda: arrival_s + one_prefill_s,
        step_parts=step.terms,
        prefill_parts=prefill_parts,
        step_work=step.work,
    )


def wait_turn(taken_s: FloatArray, others: FloatArray, away_s: FloatArray) -> FloatArray:
    """Mean wait of a prompt for those of others, each of which comes back when its answer is written [s].

    A closed queue of ``others + 1`` sequences: each takes ``taken_s`` of the accelerators for its prompt and is away for
    ``away_s``. A prompt that comes finds what the others would find without it (mean value analysis), the one in work
    half done: R = a (1 + others (R - a / 2) / (R + away)), of which the wait is R - a.

    >>> [round(float(wait_turn(np.array([1.0]), np.array([n]), np.array([100.0]))[0]), 3) for n in (0.0, 10.0, 50.0)]
    [0.0, 0.055, 0.486]
    """
    shared = taken_s * (others + 1.0)
    half = 0.5 * (away_s - shared)
    stay = np.sqrt(half * half + taken_s * (away_s - 0.5 * others * taken_s)) - half
    result: FloatArray = maximum(stay - taken_s, 0.0)
    return result


def effective_concurrency(work: LlmWork, load: LlmLoad) -> FloatArray:
    """Sequences in flight that the scheduler and the KV pool hold.

    Servers admit a request when its prompt fits and its cache grows as it writes: at any moment those in flight are
    at all depths, and take what one of mean depth takes. Tensor-parallel ranks beyond the KV heads repeat the cache.
    A pool without room for one sequence is the memory's question (the tier says so), not a limit of the speed.
    """
    depth = load.context_tokens
    cache = (
        depth * work.kv_bytes_per_token
        + minimum(depth, work.window_tokens) * work.windowed_kv_bytes_per_token
    )
    copies = load.tensor / minimum(load.tensor, work.kv_heads)
    fitting = np.floor(load.kv_pool_bytes / maximum(cache * copies + work.state_bytes, 1.0))
    held = where(fitting >= 1.0, fitting, np.inf)
    result: FloatArray = maximum(minimum(minimum(load.concurrency, load.max_sequences), held), 1.0)
    return result
