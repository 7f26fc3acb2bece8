"""Single files of the models from where they were published: the hub at a pinned revision, GitHub at a commit."""

from __future__ import annotations

from pathlib import Path

from deepforcing.wan.catalogue import HubFile
from deepforcing.wan.weights import sha256
from experiments.downloads.fetch import fetch
from experiments.downloads.manifest import Manifest


def download(file: HubFile, root: Path, manifest: Manifest, revision: str | None) -> Path:
    """One file from the hub at a pinned revision: the given one, the recorded one, or today's, which is then recorded; from
    GitHub the catalogue's."""
    if file.commit is not None:
        return fetch_pinned(file, root, manifest)
    import huggingface_hub
    import requests  # the hub client's own
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    target = file.local(root)
    try:
        revision = revision or manifest.revision(file.repo) or huggingface_hub.HfApi().model_info(file.repo).sha
        huggingface_hub.hf_hub_download(
            file.repo, file.path, revision=revision, local_dir=root / file.repo.rpartition("/")[2]
        )
    except OfflineModeIsEnabled:
        raise ValueError(f"HF_HUB_OFFLINE is set, so nothing is downloaded; {copy_hint(file, target)}") from None
    except (HfHubHTTPError, OSError) as error:
        answered = isinstance(error, HfHubHTTPError) or not isinstance(
            error, ConnectionError | requests.RequestException
        )
        reason = str(error).splitlines()[0][:160] if answered and str(error) else "no connection to huggingface.co"
        raise ValueError(
            f"{file.repo}/{file.path} cannot be downloaded ({reason}); {copy_hint(file, target)}"
        ) from None
    manifest.record(file, target, revision)
    return target


def fetch_pinned(file: HubFile, root: Path, manifest: Manifest) -> Path:
    """A file of a GitHub repository at the catalogue's commit."""

    def verify(path: Path) -> None:
        found = sha256(path)
        if found != file.sha256:
            wanted = str(file.sha256)[:12]
            raise ValueError(f"{file.url} is not the expected file: its sha256 begins {found[:12]}, not {wanted}")

    target = fetch(file.url, file.local(root), file.what, verify)
    manifest.record(file, target, file.commit)
    return target


def copy_hint(file: HubFile, target: Path) -> str:
    return f"copy {file.url} to {target}"
