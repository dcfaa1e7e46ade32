"""What lies in a folder of images: which files are images, which are left out, and why.

Hidden files and folders, and those that a NAS, an operating system or an archive puts beside images
(@eaDir, __MACOSX, Thumbs.db, thumbnails, ...), are left out and counted. Links are followed. A file whose
name does not say what it is, is an image if it begins like one.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.errors import DataError
from benchmarks.sources.counts import some

SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".webp"),
        *(".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
        *(".jpx", ".tga", ".avif"),
    )
)
# Images for certain, which are not decoded here: leaving them out would leave classes incomplete.
UNREADABLE = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".svg", ".dcm", ".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf"),
        *(".rw2", ".orf", ".exr", ".hdr", ".psd", ".nii", ".eps"),
    )
)
# Not looked into.
_OTHER = frozenset(
    (
        *(".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".db", ".ini"),
        *(".yaml", ".yml", ".mat", ".npy", ".npz", ".pkl", ".py", ".ipynb", ".log", ".lnk", ".url"),
        *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".mp4", ".avi", ".mov", ".mkv", ".wav", ".mp3"),
        *(".zip", ".gz", ".tar", ".7z", ".rar", ".bak", ".tmp", ".part", ".crdownload", ".partial"),
        *(".xmp", ".aae", ".thm", ".arrow", ".h5", ".hdf5", ".tfrecord", ".bin", ".pt", ".pth", ".md5"),
        *(".sha256",),
    )
)
SYSTEM = frozenset(
    (
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recycled", "@tmp", "@__thumb", "@sharebin"),
        *("__macosx", "$recycle.bin", "system volume information", "recycler", "lost+found", "__pycache__"),
        *("picasaoriginals", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
# Beside images these are smaller copies of them; elsewhere they may be classes (of gestures).
_SMALL = frozenset(("thumbs", "thumb", "thumbnails", "thumbnail", "_thumbs", "_thumb", "_thumbnails"))
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


@dataclass(eq=False)
class Folder:
    """One folder: names of its images, sorted, its folders by name, and what is left out of it.

    linked: whether it was reached through a link; parquet: names of parquet files; left: files left out, here
    and below, by reason.
    """

    path: str
    linked: bool = False
    images: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)
    parquet: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    @property
    def holding(self) -> dict[str, Folder]:
        """The folders that hold images, themselves or below."""
        return {name: folder for name, folder in self.folders.items() if folder.any}

    @property
    def any(self) -> bool:
        return bool(self.images) or any(folder.any for folder in self.folders.values())

    def below(self) -> list[str]:
        """The paths of all images here and below, sorted folder by folder."""
        found: list[tuple[str, Folder | None]] = [(name, None) for name in self.images]
        found += self.folders.items()
        paths: list[str] = []
        for name, folder in sorted(found, key=lambda entry: entry[0]):
            paths += [f"{self.path}/{name}"] if folder is None else folder.below()
        return paths

    def left_below(self) -> Counter[str]:
        """What is left out, here and below, by reason."""
        return sum((folder.left_below() for folder in self.folders.values()), Counter(self.left))

    def linked_below(self) -> Counter[str]:
        """Images that are reached through linked folders, by the name of the link."""
        found: Counter[str] = Counter()
        for name, folder in self.folders.items():
            found += Counter({name: len(folder.below())}) if folder.linked else folder.linked_below()
        return found

    @property
    def height(self) -> int:
        """Levels of folders below that hold images."""
        return max((1 + folder.height for folder in self.holding.values()), default=0)


def scan(path: str) -> Folder:
    """The folder `path` with all below; DataError for a folder of images that cannot be read here."""
    return _scan(path, linked=False)


def _scan(path: str, *, linked: bool) -> Folder:
    here = Folder(path, linked)
    unreadable: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_dir():
                if name.startswith(".") or name.lower() in SYSTEM:
                    if count := _images_in(entry.path):
                        here.left[f"in system folders ({name})"] += count
                    continue
                if entry.is_symlink():  # only a link can lead back to where it is
                    stat = os.stat(entry.path)
                    if (stat.st_dev, stat.st_ino) in _ancestors(path):
                        here.left[f"in links that lead back ({name})"] += 1
                        continue
                here.folders[name] = _scan(entry.path, linked=entry.is_symlink())
                continue
            dot = name.rfind(".")
            suffix = name[dot:].lower() if dot > 0 else ""
            if name.startswith("."):
                here.left["hidden files"] += suffix in SUFFIXES
            elif suffix in SUFFIXES:
                here.images.append(name)
            elif suffix == ".parquet":
                here.parquet.append(name)
            elif suffix in UNREADABLE:
                unreadable.append(name)
            elif name.lower() in SYSTEM:
                continue
            elif suffix not in _OTHER and _begins_like_an_image(entry.path):
                here.images.append(name)
            else:
                here.left[f"files that are no images ({suffix or 'no suffix'})"] += 1
    here.images.sort()
    for name in [name for name in here.folders if name.lower() in _SMALL and here.images]:
        here.left[f"in system folders ({name})"] += len(here.folders.pop(name).below())
    here.folders = dict(sorted(here.folders.items()))
    _check_unreadable(here, unreadable)
    here.left = +here.left
    return here


def _check_unreadable(here: Folder, names: list[str]) -> None:
    """DataError for images of a format that is not decoded, except beside the same image in another."""
    if not names:
        return
    stems = {os.path.splitext(name)[0] for name in here.images}
    alone = sorted(name for name in names if os.path.splitext(name)[0] not in stems)
    if alone:
        suffix = os.path.splitext(alone[0])[1]
        raise DataError(
            f"{here.path} holds {len(alone)} images in a format that is not decoded here ({suffix}: "
            f"{some(alone, 3)}); convert them to PNG or JPEG, or move them out of the data"
        )
    here.left["raw files beside their images"] += len(names)


def _ancestors(path: str) -> set[tuple[int, int]]:
    """Device and inode of a folder and of all above it."""
    found, place = set(), os.path.realpath(path)
    while True:
        stat = os.stat(place)
        found.add((stat.st_dev, stat.st_ino))
        if place == (upper := os.path.dirname(place)):
            return found
        place = upper


def _images_in(path: str) -> int:
    """How many files below a folder are called like images."""
    return sum(
        os.path.splitext(name)[1].lower() in SUFFIXES for _, _, files in os.walk(path) for name in files
    )


def _begins_like_an_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
