"""A model's tokenizer, with its special tokens and chat templates, from the files it came with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ir.errors import ArtifactError, RequestError
from .chat_template import ChatTemplate
from .detokenizer import ByteLevelDetokenizer, Detokenizer, WindowDetokenizer
from .token_bytes import byte_fallback_value, byte_level_bytes, plain_bytes

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Tokenizer", "TypedTokens"]

_SPECIAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, slots=True)
class TypedTokens:
    """Token ids, and for each of them which of two texts it is of."""

    token_ids: tuple[int, ...]
    token_types: tuple[int, ...]


class Tokenizer:
    """Text to token ids and back."""

    def __init__(
        self,
        backend: "tokenizers.Tokenizer",
        *,
        special_tokens: Mapping[str, str] | None = None,
        chat_templates: Mapping[str, str] | None = None,
        eos_token_ids: Sequence[int] = (),
    ) -> None:
        """Wrap a ``tokenizers`` tokenizer; :meth:`load` is the usual way.

        Args:
            backend: vocabulary, normalizer, post-processor and decoder.
            special_tokens: variables for chat templates, such as ``bos_token``.
            chat_templates: Jinja texts by name; the usual one is ``default``.
            eos_token_ids: the tokens that end an answer.
        """
        # Some tokenizer.json carry the settings of a training script.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_tokens = dict(special_tokens or {})
        self._templates = {
            name: ChatTemplate(source, self._special_tokens)
            for name, source in (chat_templates or {}).items()
        }
        self.eos_token_ids = frozenset(eos_token_ids)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read a folder: ``tokenizer.json``, and where there are such ``tokenizer_config.json``,
        ``special_tokens_map.json``, ``generation_config.json``, ``config.json`` and chat templates.

        Raises:
            ArtifactError: a file is missing or malformed.
        """
        import tokenizers

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ArtifactError(f"{folder} holds no tokenizer.json, which the runtime reads text with")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except (KeyboardInterrupt, SystemExit):
            raise
        except (
            BaseException
        ) as error:  # tokenizers raises bare Exception, and where its Rust panics not even that
            raise ArtifactError(f"{path} is not a tokenizer: {error}") from error
        config = _read_json(folder / "tokenizer_config.json")
        special_tokens = {
            name: text
            for source in (_read_json(folder / "special_tokens_map.json"), config)
            for name in _SPECIAL_TOKENS
            if (text := _token_text(source.get(name))) is not None
        }
        eos_token_ids = (
            _token_ids(_read_json(folder / "generation_config.json").get("eos_token_id"))
            or _token_ids(_read_json(folder / "config.json").get("eos_token_id"))
            or _token_ids(backend.token_to_id(special_tokens.get("eos_token", "")))
        )
        return cls(
            backend,
            special_tokens=special_tokens,
            chat_templates=_read_templates(folder, config.get("chat_template")),
            eos_token_ids=eos_token_ids,
        )

    @property
    def vocab_size(self) -> int:
        """Tokens there are, added ones included; a model's logits may be wider."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be written out."""
        return bool(self._templates)

    def to_json(self) -> str:
        """Return the text of a ``tokenizer.json``, megabytes of it."""
        return str(self._backend.to_str())

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return a text's token ids, by default with what the model wants at its beginning.

        Raises:
            RequestError: it is not text that UTF-8 can hold.
        """
        try:
            # The call for batches lets other threads run meanwhile, which a prompt of megabytes would hold up
            # for many seconds.
            (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        except (TypeError, UnicodeEncodeError) as error:
            raise RequestError(f"the prompt is not valid Unicode text: {error}", "prompt") from error
        return list(encoding.ids)

    def fewest_tokens(self, text: str) -> int:
        """Return a number of tokens that a text has at least, without encoding it."""
        return len(text) // self._most_characters_per_token

    def encode_whole(
        self, text: str, pair: str | None = None, *, max_tokens: int | None = None
    ) -> TypedTokens:
        """Return the tokens of a text, or of two that are compared, with all special tokens the model wants.

        Args:
            text: the text.
            pair: the other one.
            max_tokens: cut off the end of the text, of the longer one or of both, so that no more are
                returned; special tokens stay.

        Raises:
            RequestError: a text is not text that UTF-8 can hold, or ``max_tokens`` leaves none of it.
        """
        try:
            parts = self._backend.encode_batch(
                [text] if pair is None else [text, pair], add_special_tokens=False
            )
        except (TypeError, UnicodeEncodeError) as error:
            raise RequestError(f"the prompt is not valid Unicode text: {error}", "prompt") from error
        if max_tokens is not None:
            room = max_tokens - self._backend.num_special_tokens_to_add(pair is not None)
            if room < len(parts):
                raise RequestError(f"{max_tokens} tokens hold nothing of a text", "truncate")
            for part, length in zip(parts, _shortened([len(part) for part in parts], room), strict=True):
                part.truncate(length)
        whole = self._backend.post_process(parts[0], parts[1] if pair is not None else None)
        return TypedTokens(tuple(whole.ids), tuple(whole.type_ids))

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token alone; empty for an id that is no token."""
        cached = self._bytes.get(token_id)
        if cached is None:
            token = self._backend.id_to_token(token_id)
            cached = self._bytes[token_id] = b"" if token is None else self._to_bytes(token)
        return cached

    def token_text(self, token_id: int) -> str:
        """Return the text of one token alone; U+FFFD stands for bytes that are no whole character."""
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def added_token_id(self, text: str) -> int | None:
        """Return the id of the token that was added, special or not, to stand for just this text, if any."""
        return self._added_ids.get(text)

    def is_special(self, token_id: int) -> bool:
        """Whether a token has no text unless special tokens are asked for."""
        special = self._special.get(token_id)
        if special is None:
            # What has text though special tokens are skipped is none of them. The table of all that were
            # added is made only where it must be: with many tokens that takes long.
            special = not self.decode([token_id]) and token_id in self._special_ids
            self._special[token_id] = special
        return special

    def detokenizer(self, prompt_ids: Sequence[int] = (), *, skip_special_tokens: bool = True) -> Detokenizer:
        """Return a detokenizer for one answer.

        Args:
            prompt_ids: what the answer continues.
            skip_special_tokens: special tokens have no text. Those that end an answer never have.
        """
        visible = self._visible_bytes if skip_special_tokens else self._bytes_but_of_ends
        if self._is_byte_level:
            return ByteLevelDetokenizer(visible)
        return WindowDetokenizer(
            lambda token_ids: self.decode(token_ids, skip_special_tokens=skip_special_tokens),
            visible,
            self._is_byte_token,
            self._last_whole_token(prompt_ids),
        )

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        chat_template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Write a conversation out with a chat template; its text holds all special tokens already.

        Args:
            messages: the conversation.
            tools: functions the model may call; with them the template named ``tool_use`` is taken if there.
            add_generation_prompt: end with the beginning of the assistant's turn.
            continue_final_message: end within the last message instead, to be gone on with.
            chat_template: the name of one of the model's templates, or a template's text.
            template_variables: further variables for the template.

        Raises:
            RequestError: there is no template, or it refuses the conversation.
        """
        return self._template(chat_template, with_tools=bool(tools)).render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=template_variables,
        )

    def chat_template_text(self, *, with_tools: bool = False) -> str:
        """Return the text of the chat template; raises as :meth:`render_chat`."""
        return self._template(None, with_tools=with_tools).source

    def chat_variables(self, *, with_tools: bool = False) -> frozenset[str]:
        """Return the names of the variables that the chat template reads; raises as :meth:`render_chat`."""
        return self._template(None, with_tools=with_tools).variables

    def _template(self, name: str | None, *, with_tools: bool) -> ChatTemplate:
        if name is not None:
            return self._templates.get(name) or ChatTemplate(name, self._special_tokens)
        for usual in ("tool_use", "default") if with_tools else ("default",):
            if usual in self._templates:
                return self._templates[usual]
        if self._templates:
            names = ", ".join(sorted(self._templates))
            raise RequestError(f"the model has no default chat template; name one of: {names}", "messages")
        raise RequestError(
            "the model has no chat template, so it can complete text but not answer messages", "messages"
        )

    @cached_property
    def _most_characters_per_token(self) -> int:
        longest = max(map(len, self._backend.get_vocab(with_added_tokens=True)))
        # A normalizer may drop characters, though hardly three of four.
        return longest if self._backend.normalizer is None else 4 * longest

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        return {}

    @cached_property
    def _decoder(self) -> Mapping[str, Any]:
        # The decoder's own pickled state is its part of tokenizer.json, which as a whole is megabytes.
        decoder = self._backend.decoder
        return {} if decoder is None else dict(json.loads(decoder.__getstate__()))

    @cached_property
    def _decoder_kinds(self) -> frozenset[str]:
        parts = self._decoder.get("decoders", [self._decoder])
        return frozenset(part["type"] for part in parts if "type" in part)

    @cached_property
    def _is_byte_level(self) -> bool:
        return self._decoder_kinds == {"ByteLevel"}

    @cached_property
    def _has_byte_runs(self) -> bool:
        return "ByteFallback" in self._decoder_kinds

    @cached_property
    def _to_bytes(self) -> Callable[[str], bytes]:
        return byte_level_bytes if "ByteLevel" in self._decoder_kinds else plain_bytes

    @cached_property
    def _added_ids(self) -> Mapping[str, int]:
        added = self._backend.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in added.items()}

    @cached_property
    def _special(self) -> dict[int, bool]:
        return {}

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    def _visible_bytes(self, token_id: int) -> bytes | None:
        """The bytes of a token that has a place in decoded text, else ``None``."""
        if self.is_special(token_id):
            return None
        return self.token_bytes(token_id) or None

    def _bytes_but_of_ends(self, token_id: int) -> bytes | None:
        return None if token_id in self.eos_token_ids else self.token_bytes(token_id) or None

    def _is_byte_token(self, token_id: int) -> bool:
        if not self._has_byte_runs:
            return False
        token = self._backend.id_to_token(token_id)
        return token is not None and byte_fallback_value(token) is not None

    def _last_whole_token(self, token_ids: Sequence[int]) -> list[int]:
        """The last token with text that stands for itself: enough for a decoder to know it is mid-text."""
        for token_id in reversed(token_ids):
            if self._visible_bytes(token_id) is not None and not self._is_byte_token(token_id):
                return [token_id]
        return []


def _shortened(lengths: Sequence[int], room: int) -> list[int]:
    """Lengths of one or two texts that fit in ``room`` tokens: the longer one gives first, then both."""
    if sum(lengths) <= room:
        return list(lengths)
    half = room // len(lengths)
    shorter = min(lengths) if min(lengths) < half else half
    if len(lengths) == 1:
        return [room]
    rest = room - shorter
    return [shorter, rest] if lengths[0] <= lengths[1] else [rest, shorter]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must hold a JSON object")
    return value


def _token_text(value: object) -> str | None:
    """A special token's text, which stands alone or in an object with its flags."""
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else None


def _token_ids(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(token_id for token_id in values if isinstance(token_id, int))


def _template_in(entry: object) -> tuple[str, str]:
    """A template's name and text."""
    match entry:
        case {"name": str(name), "template": str(text)}:
            return name, text
    raise ArtifactError("a chat template in tokenizer_config.json has no name and no text")


def _read_templates(folder: Path, configured: object) -> dict[str, str]:
    """Templates by name; files win over what ``tokenizer_config.json`` holds, as in ``transformers``."""
    templates: dict[str, str] = {}
    if isinstance(configured, str):
        templates["default"] = configured
    elif isinstance(configured, list):
        templates |= {name: text for entry in configured for name, text in (_template_in(entry),)}
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_text(encoding="utf-8")
    return templates
