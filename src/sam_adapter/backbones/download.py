"""Fetch a named base model, only when it is named and absent, or say which files to put where."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError

from ..errors import CheckpointError

log = logging.getLogger(__name__)

FILES = ("config.json", "model.safetensors")


def download_folder(repository: str, *, alias: str, aliases: Mapping[str, str]) -> Path:
    """Folder of a Hugging Face model: from the local cache, else from the hub.

    The hub client shows a progress bar and checks each file's SHA-256.

    Args:
        repository: ``owner/name``.
        alias: What the user wrote.
        aliases: Short names, for the error message.

    Raises:
        CheckpointError: If the name is no model, or the files are not here and cannot be fetched.
    """
    if repository.count("/") != 1:
        raise CheckpointError(
            f"model: '{alias}' is neither a file, a folder, one of {', '.join(aliases)}, nor a Hugging Face id "
            "(owner/name)."
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=list(FILES), local_files_only=True))
    except HFValidationError as error:
        raise CheckpointError(f"model: '{repository}' is not a valid Hugging Face id.") from error
    except Exception:  # not in the cache
        log.info("'%s' is not on this machine yet", repository)
    if not constants.HF_HUB_OFFLINE and not os.environ.get("TRANSFORMERS_OFFLINE"):
        log.warning("Fetching %s (%s) from the Hugging Face hub.", repository, ", ".join(FILES))
        try:
            return Path(snapshot_download(repository, allow_patterns=list(FILES)))
        except GatedRepoError as error:
            raise CheckpointError(
                f"model: huggingface.co/{repository} gives its files to those alone who have agreed to its licence. "
                "Agree to it there, log in here with 'hf auth login' (or set HF_TOKEN) and start again; or give the "
                "folder or file that you have as --model."
            ) from error
        except Exception as error:
            reason = f"fetching it failed ({type(error).__name__})"
            raise CheckpointError(_where_to_put(repository, alias, reason)) from error
    raise CheckpointError(_where_to_put(repository, alias, "this machine is set to offline"))


def _where_to_put(repository: str, alias: str, reason: str) -> str:
    return (
        f"model: '{alias}' is not on this machine and {reason}. Get {' and '.join(FILES)} of "
        f"huggingface.co/{repository}, put them into one folder and give that folder as --model; or give one of "
        "the authors' files (such as sam_vit_b_01ec64.pth, sam_hq_vit_b.pth, sam2.1_hiera_tiny.pt, sam3.pt)."
    )
