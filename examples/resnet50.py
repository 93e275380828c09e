"""ResNet-50, a network of 177 layers that was trained on ImageNet, names what is on a picture.

python examples/resnet50.py dog.jpg castle.jpg                 pictures of yours; weights are downloaded once (98 MiB)
python examples/resnet50.py --weights weights.h5 dog.jpg       weights from a file of Keras's or PyTorch's
python examples/resnet50.py --weights none --side 64           nothing to download: random weights, a made-up picture

Its layers are in blocks, and each block adds its input to its output: it only has to learn what to change. That is what
lets a network be so deep.
"""

import argparse

import numpy as np

import parnet as pn
from parnet.applications import resnet50


def made_up(side):
    """A grey slope with a red square, for those who have no picture at hand."""
    picture = np.repeat(np.linspace(0, 255, side)[:, None, None], side, axis=1).repeat(3, axis=2)
    picture[side // 4 : side // 2, side // 4 : side // 2] = (200, 30, 30)
    return picture


def main():
    parser = argparse.ArgumentParser(description="ResNet-50 names what is on pictures.")
    parser.add_argument("pictures", nargs="*", help="files; a made-up picture by default")
    parser.add_argument("--weights", default="imagenet", help="'imagenet', a file, or 'none' for random ones")
    parser.add_argument("--side", type=int, default=224, help="pixels of a side that the network sees")
    chosen = parser.parse_args()
    weights = None if chosen.weights == "none" else chosen.weights
    model = resnet50.ResNet50(weights=weights, input_shape=(chosen.side, chosen.side, 3), seed=0)
    trainable = sum(p.numpy().size for p in model.parameters())
    print(f"{len(model.layers) + 1} layers, {model.count_params():,} parameters, {trainable:,} of them trainable")

    # A picture is made as large as fits, and padded with black: its proportions stay.
    loaded = [pn.image.load(path) for path in chosen.pictures] or [made_up(300)]
    batch = np.array([pn.image.resize_with_pad(picture, chosen.side, chosen.side) for picture in loaded])
    print(f"a batch {batch.shape} from {batch.min():.0f} to {batch.max():.0f}")

    # The weights were trained on blue, green, red less their means; predict does no training and needs no labels.
    scores = model.predict(resnet50.preprocess_input(batch))
    for name, row in zip(chosen.pictures or ["made up"], scores, strict=True):
        if weights is None:
            best = row.argmax()
            print(f"{name}: class {best} with {100 * row[best]:.2f} %, of random weights")
            continue
        print(name)
        for class_id, label, p in resnet50.decode_predictions(row[None], top=3)[0]:
            print(f"  {class_id} - {label:20s} {100 * p:.2f} %")


if __name__ == "__main__":
    main()
