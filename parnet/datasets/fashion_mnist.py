"""Fashion-MNIST: 70,000 pieces of clothing. Stage: before the model. Must not know: models or kernels.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", arXiv:1708.07747 (2017). Copyright Zalando SE, MIT licence.
"""

from __future__ import annotations

import os

from ._files import IDX_FILES, ImageData, ImageSource, load

SOURCE = ImageSource(
    name="fashion-mnist",
    url="https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    files=tuple(f"fashion-mnist/{stem}.gz" for stem in IDX_FILES),
    digests={
        "x_train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "y_train": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "x_test": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "y_test": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)


def load_data(path: str | os.PathLike | None = None, url: str | None = None) -> ImageData:
    """Fashion-MNIST, from disk if it is there, else downloaded once (30 MiB) into the cache.

    Looks for `fashion-mnist.npz` or `fashion-mnist/train-images-idx3-ubyte` (and the other three, plain or
    `.gz`) in the folder PARNET_DATA, then in the cache. Every array's sha256 is checked on every load.
    Debian's package dataset-fashion-mnist serves with `PARNET_DATA=/usr/share/datasets`.

    Labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag,
    9 ankle boot.

    Args:
        path: an npz file, or a folder with it or the four IDX files. Read that and look nowhere else.
        url: a mirror: the web folder with the four gzipped IDX files, in place of Keras's.
    Returns:
        `((x_train, y_train), (x_test, y_test))`, all uint8: images (60000, 28, 28) and (10000, 28, 28), grey
        values 0 (background) to 255; labels (60000,) and (10000,), classes 0 to 9. Train on the first pair,
        test on the second.
    Raises:
        DatasetError: not on disk, and the download failed.
        FileFormatError: a file is damaged, or holds other arrays.
    """
    return load(SOURCE, path, url)
