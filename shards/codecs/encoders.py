"""What a writer calls for each member, whatever the codec."""

from collections.abc import Sequence

import numpy as np

from shards.codecs.codec import AUTO, choose, encode
from shards.codecs.quality import Quality
from shards.codecs.video import Video
from shards.codecs.video import encode as encode_video


def member_codec(codec: str, dtype: str, *, mask: bool = False) -> str:
    """Return the codec that is recorded for a member.

    Args:
        codec: as it was asked for; `auto` becomes the dtype's default.
        dtype: of the member.
        mask: a label `[H, W]`: those are never lossy and no film, so `video` means `auto`.
    """
    return choose(AUTO if mask and codec == "video" else codec, dtype)


def encode_member(
    array: np.ndarray,
    codec: str,
    video: Video | None = None,
    nodata: Sequence[int | None] | None = None,
    where: str = "array",
) -> tuple[bytes, Quality | None]:
    """Encode a member.

    Args:
        array: of a stored dtype.
        codec: what `member_codec` returned.
        video: what a video may lose; nothing when None.
        nodata: for each band the stored number that means "no data".
        where: for errors.

    Returns:
        its bytes, and for a video what was lost.

    Raises:
        FMError: see `shards.codecs.video.encode`.
    """
    if codec == "video":
        return encode_video(array, video or Video(), nodata, where)
    return encode(array, codec), None
