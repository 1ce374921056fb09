"""Zip files from elsewhere, read in memory within limits. Nothing is extracted, so no name in them is ever a path."""

import io
import struct
import zipfile
import zlib

from tools.problem import needed

ZSTANDARD = 93
"""Compression method of current `.eval` logs. Python reads it itself from 3.14 on."""
MEMBER_LIMIT = 1 << 27
"""Bytes of one member, decompressed."""
TOTAL_LIMIT = 1 << 32
"""Bytes of all members of one archive together, decompressed."""
MEMBERS_LIMIT = 200_000
WINDOW_LIMIT = 1 << 27
"""Bytes of memory that a zstd frame may ask for while it is decompressed."""
_LOCAL_HEADER = 30


class Archive:
    """The members of a zip file by name. A name that is there twice is the later one, as for other readers."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError for what is no zip file, or holds too many members."""
        self._content = content
        self._left = TOTAL_LIMIT
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OSError) as error:
            raise ValueError(f"is no zip file that can be read: {error}") from error
        if len(self._zip.filelist) > MEMBERS_LIMIT:
            raise ValueError(f"has {len(self._zip.filelist)} members; the limit is {MEMBERS_LIMIT}")

    @property
    def names(self) -> list[str]:
        return list(self._zip.NameToInfo)

    def read(self, name: str) -> bytes:
        """A member, whole. Raises ValueError saying what is wrong with it; a bomb costs no more than the limit."""
        info = self._zip.NameToInfo[name]
        limit = min(MEMBER_LIMIT, self._left)
        try:
            if info.compress_type == ZSTANDARD:
                found = self._zstandard(info, limit)
            else:
                with self._zip.open(info) as member:
                    found = member.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError, struct.error) as error:
            raise ValueError(f"cannot be decompressed: {error}") from error
        self._left -= len(found)
        if len(found) > limit:
            raise ValueError(f"is larger than the {limit} bytes that are read of it")
        return found

    def _zstandard(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        with needed("inspect", "read zstd-compressed logs"):
            import zstandard
        if info.flag_bits & 1:
            raise ValueError("is encrypted")
        head = self._content[info.header_offset : info.header_offset + _LOCAL_HEADER]
        if head[:4] != b"PK\x03\x04" or len(head) < _LOCAL_HEADER:
            raise ValueError("its header is not where the directory says")
        begin = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", head[26:30]))
        packed = io.BytesIO(self._content[begin : begin + info.compress_size])
        try:
            reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).stream_reader(
                packed, read_across_frames=True
            )
            found = reader.read(limit + 1)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        if len(found) <= limit and zlib.crc32(found) != info.CRC:
            raise ValueError("its checksum does not fit")
        return found
