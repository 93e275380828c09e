"""Data sets to train on, as NumPy arrays. Stage: before the model. Must not know: models or kernels.

| module          | images                                | needs                                          |
|-----------------|---------------------------------------|------------------------------------------------|
| `mnist`         | 70,000 handwritten digits, 28 x 28    | `mnist.npz` on disk or a download of 11 MiB    |
| `fashion_mnist` | 70,000 pieces of clothing, 28 x 28    | four IDX files on disk or a download of 30 MiB |
| `digits`        | 1,797 handwritten digits, 8 x 8       | scikit-learn, which carries them; no download  |

Each has `load_data() -> ((x_train, y_train), (x_test, y_test))`. `_files` finds, reads and checks the
files of the first two; `_download` fetches them.
"""

from . import digits, fashion_mnist, mnist

__all__ = ["digits", "fashion_mnist", "mnist"]
