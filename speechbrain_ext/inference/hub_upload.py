"""Upload of a folder to the hub: private by default, and resumable.

The hub keeps files by their hashes: what an interrupted upload has sent is
not sent again, and a new round sends what changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike

_MESSAGE = "Upload model"
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def upload(
    folder: PathLike,
    names: Sequence[str],
    repository: str,
    private: bool = True,
    contents: Mapping[str, bytes] | None = None,
    endpoint: str | None = None,
) -> str:
    """Create a model repository if needed, and upload a folder's files.

    All of them in one commit: others never see half a model. The token is the
    hub client's: of the variable ``HF_TOKEN`` or of ``hf auth login``.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by export_model.
    names : sequence of str
        The files in it to send, and no others.
    repository : str
        ``owner/name``.
    private : bool
        Whether a repository that is created is private.
    contents : mapping of str to bytes, optional
        What to send in place of the files of these names.
    endpoint : str, optional
        Address of the hub; that of ``HF_ENDPOINT``, or the public one, when
        None.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    InputError
        The id is malformed, or the hub does not take the files: what was
        sent stays there, and the same command goes on.
    """
    check_id(repository)
    api = HfApi(endpoint=endpoint)
    given: dict[str, str | bytes] = {
        name: str(Path(folder) / name) for name in sorted(names)
    }
    given.update(contents or {})
    operations = [CommitOperationAdd(*item) for item in given.items()]
    try:
        created = api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(
            created.repo_id, operations, commit_message=_MESSAGE
        )
    # Many kinds of errors: no token, no permission, no network, a full disk.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        cause = f"{reason} {error.__cause__ or ''}".strip()
        raise InputError(
            f"{repository} could not be uploaded ({cause}); log in with hf "
            "auth login if it is a matter of rights, then type the same "
            "command again: what has arrived is not sent again"
        ) from error
    return str(commit)


def check_id(repository: str) -> None:
    """Raise InputError if a repository is not named ``owner/name``.

    Example
    -------
    >>> check_id("me/my model")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: push is 'me/my model'; it must ...
    """
    if not isinstance(repository, str) or not _ID.fullmatch(repository):
        raise InputError(
            f"push is {repository!r}; it must be owner/name, of letters, "
            "digits, dots and dashes; for example --push=me/my-model"
        )


def describe_upload(
    folder: PathLike, names: Sequence[str], repository: str, private: bool
) -> str:
    """List the files that `upload` would send; nothing is sent.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "config.json").write_text("{}")
    >>> print(describe_upload(folder, ["config.json"], "me/model", True))
    would go to me/model (private, if it is new):
               2 bytes  config.json
    """
    kind = "private" if private else "public"
    lines = [f"would go to {repository} ({kind}, if it is new):"]
    for name in sorted(names):
        size = (Path(folder) / name).stat().st_size
        lines.append(f"{size:12,} bytes  {name}")
    return "\n".join(lines)
