"""Data sets from the Hugging Face hub: the parquet files of a repository, read like local ones.

Downloads go through `huggingface_hub`, which reads HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN
itself; `datasets` would bring a second cache and a second reader and is not used. A
complete copy in the hub's cache is used without asking the network: a data set does not change between runs.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.errors import DataError, pip_install
from benchmarks.progress import Progress
from benchmarks.sources.local import LocalSource
from benchmarks.sources.parquet import Columns
from benchmarks.sources.reading import Reading
from benchmarks.sources.source import SourceData
from benchmarks.store import Store


class HubSource:
    """The data set `repository` of the hub, with an official test split, as the source `name`.

    looked: where it was looked for before, in words, for errors.
    """

    def __init__(
        self,
        name: str,
        repository: str,
        *,
        looked: str,
        columns: Columns | None,
        terms: str = "",
        reading: Reading | None = None,
    ) -> None:
        self.name = name
        self.repository = repository
        self.looked = looked
        self.columns = columns
        self.terms = terms
        self.reading = reading

    def load(self, store: Store, progress: Progress, size: int | None = None) -> SourceData:
        """See `Source.load`; DataError also when the hub cannot be reached or must not be."""
        return (self._cached() or self._local(self._download())).load(store, progress, size)

    def _local(self, folder: Path) -> LocalSource:
        return LocalSource(
            self.name,
            folder,
            columns=self.columns,
            official=True,
            terms=self.terms,
            reading=self.reading,
        )

    def _cached(self) -> LocalSource | None:
        """What an earlier download left, if it is complete."""
        try:
            source = self._local(self._download(local_only=True))
            source.splits()
        except DataError:
            return None
        return source

    def _download(self, local_only: bool = False) -> Path:
        way_out = (
            f"put its parquet files into $CARRYOVER_DATA/{self.name.removesuffix('-coarse')} "
            f"(train.parquet, test.parquet; {self.repository} on the hub has them)"
        )
        try:
            from huggingface_hub import constants, snapshot_download
        except ImportError as error:
            raise DataError(
                f"{self.name} is not there ({self.looked}), and downloading it needs the package "
                f"huggingface-hub; type {pip_install('huggingface-hub')}, or {way_out}"
            ) from error
        try:
            return Path(
                snapshot_download(
                    self.repository,
                    repo_type="dataset",
                    allow_patterns="*.parquet",
                    local_files_only=local_only,
                )
            )
        except Exception as error:  # HTTP, socket, TLS and proxy errors have no common base
            if constants.HF_HUB_OFFLINE:
                reason = "HF_HUB_OFFLINE is set: unset it"
            else:
                first = f"{error}".strip().split("\n")[0] or type(error).__name__
                reason = f"{constants.ENDPOINT} did not serve it ({first}): try again"
            raise DataError(
                f"{self.name} is not there ({self.looked}; the hub's cache in {constants.HF_HUB_CACHE} "
                f"does not hold it), and {reason}, or {way_out}"
            ) from error
