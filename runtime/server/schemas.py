"""What goes over the wire: OpenAI's requests and responses as typed models.

Requests are strict. A field this server does not know, or knows and cannot honour, is refused with
its name, so that nobody believes an option had an effect that it did not have. OpenAI's fields that
are harmless at their neutral value (``store=false``, ``response_format={"type": "text"}``) are declared
with that value as their only type. Ranges are not checked here: `SamplingParams` owns them.

Responses carry exactly the fields that were set (`body` leaves the others out), because OpenAI's
format tells an absent field (``delta.role`` after the first chunk) from a null one
(``finish_reason`` before the last).

Source of the shapes: OpenAI's API reference, and vLLM's for the extra sampling fields.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WrapValidator
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

__all__ = [
    "ChatChoice",
    "ChatChunk",
    "ChatChunkChoice",
    "ChatDelta",
    "ChatLogprobs",
    "ChatMessage",
    "ChatRequest",
    "ChatResponse",
    "ChatTokenLogprob",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionRequest",
    "CompletionResponse",
    "DetokenizeRequest",
    "DetokenizeResponse",
    "ErrorBody",
    "ErrorResponse",
    "FinishReason",
    "Health",
    "ModelCard",
    "ModelList",
    "ReplyMessage",
    "SamplingFields",
    "StreamOptions",
    "TokenizeRequest",
    "TokenizeResponse",
    "TopLogprob",
    "Usage",
    "Version",
    "body",
]

FinishReason: TypeAlias = Literal["stop", "length"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


def body(response: BaseModel, hidden: set[str] | None = None) -> bytes:
    """Return the JSON of a response, without the fields that were never set and those ``hidden``."""
    return response.model_dump_json(exclude_unset=True, exclude=hidden).encode()


def _expects(expected: str) -> WrapValidator:
    """Answer a value that fits no member of a union with one sentence, not with one for each member."""

    def validate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
        try:
            return handler(value)
        except PydanticValidationError:
            raise PydanticCustomError("unexpected", "must be {expected}", {"expected": expected}) from None

    return WrapValidator(validate)


def _no_text_to_empty(value: object) -> object:
    return None if value in ("", []) else value


# --- requests ----------------------------------------------------------------------------------------


class StreamOptions(_Request):
    """What a stream carries besides its tokens."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class SamplingFields(_Request):
    """What chat completions and completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    n: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = Field(default=None, description="Bias by token id.")
    stop: Annotated[str | list[str] | None, _expects("a string or a list of strings")] = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    seed: int | None = None

    user: str | None = Field(default=None, description="Taken and not used.")


class CompletionRequest(SamplingFields):
    """``POST /v1/completions``."""

    prompt: Annotated[
        str | list[int] | list[str | list[int]],
        _expects("a string, a list of strings, a list of token ids or a list of such lists"),
    ]
    logprobs: int | None = None
    echo: bool | None = None

    best_of: int | None = Field(default=None, description="Supported only where it equals n.")
    suffix: Annotated[None, BeforeValidator(_no_text_to_empty)] = None


class TextPart(_Request):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class FunctionCall(_Request):
    """The call that an earlier answer asked for."""

    name: str
    arguments: str


class ToolCall(_Request):
    """An entry of an assistant message's ``tool_calls``."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(_Request):
    """One turn of a conversation, whoever spoke."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    # What a client echoes when it appends an answer's message to its history.
    refusal: None = None
    annotations: Annotated[None, BeforeValidator(_no_text_to_empty)] = None
    audio: None = None
    function_call: None = None


class FunctionDefinition(_Request):
    """A function that the model may ask to be called; ``parameters`` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class Tool(_Request):
    """An entry of ``tools``."""

    type: Literal["function"]
    function: FunctionDefinition


class TextFormat(_Request):
    """The only ``response_format`` there is."""

    type: Literal["text"]


class ChatRequest(SamplingFields):
    """``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    chat_template_kwargs: dict[str, object] | None = Field(
        default=None, description="Further variables for the chat template."
    )
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    metadata: dict[str, str] | None = Field(default=None, description="Taken and not used.")
    prompt_cache_key: str | None = Field(default=None, description="Taken and not used.")
    safety_identifier: str | None = Field(default=None, description="Taken and not used.")
    modalities: list[Literal["text"]] | None = None
    parallel_tool_calls: Literal[True] | None = None
    response_format: TextFormat | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    verbosity: Literal["medium"] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    prediction: None = None
    reasoning_effort: None = None
    web_search_options: None = None


class TokenizeRequest(_Request):
    """``POST /tokenize``: either a prompt or a conversation, as the model would see it."""

    model: str | None = Field(default=None, description="May be left out where one model is served.")
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    tools: list[Tool] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True


class DetokenizeRequest(_Request):
    """``POST /detokenize``."""

    model: str | None = Field(default=None, description="May be left out where one model is served.")
    tokens: list[int]


# --- responses ---------------------------------------------------------------------------------------


class Usage(_Response):
    """Tokens of one request, over all its prompts and choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(_Response):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    """The token at a position, and the likeliest ones there."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(_Response):
    """Log-probabilities in the form of chat completions."""

    content: list[ChatTokenLogprob]
    refusal: None


class CompletionLogprobs(_Response):
    """Log-probabilities in the form of completions; lists of equal length, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(_Response):
    """One continuation, or a piece of it in a chunk."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class CompletionResponse(_Response):
    """The answer to ``POST /v1/completions``, whole or one event of it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ReplyMessage(_Response):
    """The model's turn."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(_Response):
    """One answer."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatResponse(_Response):
    """The answer to ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(_Response):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(_Response):
    """A piece of one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(_Response):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class ModelCard(_Response):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["ingot"]
    max_model_len: int


class ModelList(_Response):
    """``GET /v1/models``."""

    object: Literal["list"]
    data: list[ModelCard]


class TokenizeResponse(_Response):
    """Token ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]


class DetokenizeResponse(_Response):
    """The text of token ids."""

    prompt: str


class Health(_Response):
    """``GET /health``."""

    status: Literal["ok"]


class Version(_Response):
    """``GET /version``."""

    version: str


class ErrorBody(_Response):
    """What went wrong; ``param`` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(_Response):
    """The body of every answer that is not a success, and the event that ends a broken stream."""

    error: ErrorBody
