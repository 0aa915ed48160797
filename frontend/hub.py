"""Repositories of the Hugging Face hub: the files a model needs, in the cache that ``huggingface_hub`` keeps.

What is in the cache is not fetched again, and serves alone where the hub cannot be reached or
``HF_HUB_OFFLINE`` is set. A connection that breaks off is taken up again where it broke; where a download is
given up, the files that had arrived whole stay.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..ir.errors import HubError, IngotError
from ._hub_bars import silent_bars
from .gguf import gguf_parts
from .progress import DownloadProgress
from .weights import QUANTIZATION_FILES
from .weights.folder import INDEX_NAME, SINGLE_NAME, TORCH_INDEX_NAME, TORCH_NAME, read_index

__all__ = ["fetch_gguf", "fetch_repository"]

_DESCRIPTION_FILES = (
    "config.json",
    "generation_config.json",
    *QUANTIZATION_FILES,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "[0-9]*_*/config.json",
    "[0-9]*_Dense/model.safetensors",
    INDEX_NAME,
    TORCH_INDEX_NAME,
)
"""All but the weights: which files hold those, the index says; others are copies in other formats."""

_MOST_NAMED = 8

_GIVE_TOKEN = "set HF_TOKEN, or log in with 'hf auth login'"


def fetch_repository(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: DownloadProgress | None = None,
    endpoint: str | None = None,
    cache_folder: Path | None = None,
) -> Path:
    """Bring a repository's configuration, tokenizer and weights into the cache; return their folder.

    Args:
        repository: ``org/name``.
        revision: a branch, a tag or a commit; the main branch without.
        token: without it ``HF_TOKEN`` or the login's.
        progress: told of bytes as they come in.
        endpoint: the hub's address; without it ``HF_ENDPOINT`` or the public hub.
        cache_folder: without it where ``HF_HUB_CACHE`` or ``HF_HOME`` say.

    Raises:
        HubError: the repository or revision does not exist, is gated, cannot be reached or breaks off, or it
            holds no model that can be taken in.
        WeightError: the index of the weights is malformed.
    """
    address = endpoint or constants.ENDPOINT
    fetch = _fetcher(repository, revision, token, progress, address, cache_folder)
    folder = fetch(revision, _DESCRIPTION_FILES)
    commit = folder.name  # so that both parts are of one commit, even if the branch moves in between
    if not (folder / "config.json").is_file():
        raise HubError(_explain_absence(repository, commit, "config.json", token, address))
    for index, single in ((INDEX_NAME, SINGLE_NAME), (TORCH_INDEX_NAME, TORCH_NAME)):
        weights = _weight_files(folder / index, single)
        fetch(commit, [glob.escape(name) for name in weights])
        if any((folder / name).is_file() for name in weights):
            return folder
    wanted = f"{SINGLE_NAME}, no {INDEX_NAME} and no {TORCH_NAME}"
    raise HubError(_explain_absence(repository, commit, wanted, token, address))


def fetch_gguf(
    repository: str,
    file: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: DownloadProgress | None = None,
    endpoint: str | None = None,
    cache_folder: Path | None = None,
) -> Path:
    """Bring one GGUF file of a repository into the cache, all parts of a split model; return the file.

    Args:
        repository: ``org/name``.
        file: its path in the repository.
        revision: as for :func:`fetch_repository`, and so are the others.

    Raises:
        HubError: as :func:`fetch_repository`, or the repository has no such file.
    """
    address = endpoint or constants.ENDPOINT
    fetch = _fetcher(repository, revision, token, progress, address, cache_folder)
    path = PurePosixPath(file)
    names = [str(path.with_name(name)) for name in gguf_parts(path.name)]
    folder = fetch(revision, [glob.escape(name) for name in names])
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise HubError(_explain_missing_file(repository, folder.name, missing[0], token, address))
    return folder / file


def _fetcher(
    repository: str,
    revision: str | None,
    token: str | None,
    progress: DownloadProgress | None,
    endpoint: str,
    cache_folder: Path | None,
) -> Callable[[str | None, Sequence[str]], Path]:
    """Brings what patterns match of a commit into the cache, and returns its folder."""
    bars = silent_bars(progress)

    def fetch(commit: str | None, patterns: Sequence[str]) -> Path:
        with _sentences(repository, revision, token, endpoint):
            return Path(
                snapshot_download(
                    repository,
                    revision=commit,
                    allow_patterns=list(patterns),
                    token=token,
                    endpoint=endpoint,
                    cache_dir=cache_folder,
                    library_name="ingot",
                    tqdm_class=bars,
                )
            )

    return fetch


def _weight_files(index: Path, single: str) -> list[str]:
    return sorted(set(read_index(index).values())) if index.is_file() else [single]


def _list_files(repository: str, commit: str, token: str | None, endpoint: str) -> list[str]:
    """The repository's files; none where they cannot be listed, whatever keeps them from us."""
    try:
        return list(HfApi(endpoint=endpoint, token=token).list_repo_files(repository, revision=commit))
    except Exception:  # the sentence stands without them
        return []


def _explain_absence(repository: str, commit: str, wanted: str, token: str | None, endpoint: str) -> str:
    """Say that ``wanted`` is not in the repository, and if that can be found out, what is."""
    names = _list_files(repository, commit, token, endpoint)
    absence = f"{repository} on {endpoint} holds no {wanted}"
    files = [name for name in names if name.endswith(".gguf")]
    if files:
        return f"{absence}, but GGUF files: name one of them, such as {repository}:{files[0]}"
    formats = [
        suffix
        for suffix in (".bin", ".pth", ".onnx", ".h5", ".msgpack")
        if any(name.endswith(suffix) for name in names)
    ]
    instead = f", only {', '.join(formats)} files" if formats else ""
    return f"{absence}{instead}; a model in safetensors is needed"


def _explain_missing_file(repository: str, commit: str, wanted: str, token: str | None, endpoint: str) -> str:
    names = _list_files(repository, commit, token, endpoint)
    files = sorted(name for name in names if name.endswith(".gguf"))
    instead = f"; its GGUF files are {', '.join(files[:_MOST_NAMED])}" if files else ""
    more = " and others" if len(files) > _MOST_NAMED else ""
    return f"{repository} on {endpoint} has no file {wanted}{instead}{more}"


@contextmanager
def _sentences(repository: str, revision: str | None, token: str | None, endpoint: str) -> Iterator[None]:
    """Turn whatever goes wrong on the way to the hub into a :class:`HubError` that says what to do."""
    try:
        yield
    except IngotError:
        raise
    except Exception as error:  # several HTTP clients' and the file system's, with no base class of their own
        raise HubError(_sentence(error, repository, revision, token, endpoint)) from error


def _sentence(
    error: Exception, repository: str, revision: str | None, token: str | None, endpoint: str
) -> str:
    has_token = bool(token or get_token())
    match error:
        case GatedRepoError() if has_token:
            return (
                f"{repository} is gated, and the token's account has no access: ask for it on "
                f"{endpoint}/{repository} and try again once it is granted"
            )
        case GatedRepoError():
            return (
                f"{repository} is gated: ask for access on {endpoint}/{repository}, then give a token of "
                f"that account ({_GIVE_TOKEN})"
            )
        case DisabledRepoError():
            return f"{repository} was disabled on {endpoint}"
        case RevisionNotFoundError():
            return f"{repository} on {endpoint} has no revision '{revision}'"
        case RepositoryNotFoundError():
            private = "the token may not see it" if has_token else f"if it is private, {_GIVE_TOKEN}"
            return f"there is no repository {repository} on {endpoint}; {private}"
        case HFValidationError():
            return f"'{repository}' cannot be the name of a repository: {error}"
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return f"{repository} is not wholly in the cache, and HF_HUB_OFFLINE keeps it from being fetched"
        case LocalEntryNotFoundError() if isinstance(error.__cause__, HfHubHTTPError):
            return _refusal(error.__cause__, repository, endpoint)
        case LocalEntryNotFoundError():
            return f"{endpoint} cannot be reached, and {repository} is not wholly in the cache"
        case HfHubHTTPError():
            return _refusal(error, repository, endpoint)
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{repository} could not be downloaded; whole files are kept, so try again: {reason}"


def _refusal(error: HfHubHTTPError, repository: str, endpoint: str) -> str:
    status = error.response.status_code
    if status == 401:
        return f"{endpoint} does not accept the token for {repository}; give a valid one ({_GIVE_TOKEN})"
    if status == 403:
        return (
            f"{endpoint} forbids {repository} to this token; one with read access is needed ({_GIVE_TOKEN})"
        )
    if status == 429:
        return f"{endpoint} is asked too often for now; try {repository} again later, or with a token"
    return f"{endpoint} answers {status} for {repository}; try again later"
