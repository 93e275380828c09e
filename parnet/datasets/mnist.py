"""MNIST: 70,000 handwritten digits. Stage: before the model. Must not know: models or kernels.

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits" (1998).
"""

from __future__ import annotations

import os

from ._files import ImageData, ImageSource, load

SOURCE = ImageSource(
    name="mnist",
    url="https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    files=("mnist.npz",),
    digests={
        "x_train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "y_train": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "x_test": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "y_test": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)


def load_data(path: str | os.PathLike | None = None, url: str | None = None) -> ImageData:
    """MNIST, from disk if it is there, else downloaded once (11 MiB) into the cache.

    Looks for `mnist.npz` or `mnist/train-images-idx3-ubyte` (and the other three, plain or `.gz`) in the
    folder PARNET_DATA, then in the cache. Every array's sha256 is checked on every load.

    Args:
        path: an npz file, or a folder with it or the four IDX files. Read that and look nowhere else.
        url: a mirror: the web folder with `mnist.npz`, in place of Keras's.
    Returns:
        `((x_train, y_train), (x_test, y_test))`, all uint8: images (60000, 28, 28) and (10000, 28, 28), grey
        values 0 (paper) to 255 (ink); labels (60000,) and (10000,), digits 0 to 9. Train on the first pair,
        test on the second.
    Raises:
        DatasetError: not on disk, and the download failed.
        FileFormatError: a file is damaged, or holds other arrays.
    """
    return load(SOURCE, path, url)
