"""What a network is given to see: a digit as a picture, and as the numbers that it is.

python examples/pixel_picture.py                  a digit of scikit-learn's (8 x 8), nothing to download
python examples/pixel_picture.py --data mnist     one of MNIST's (28 x 28)
python examples/pixel_picture.py --number 7       another picture of the set

Writes pixels.png: every cell has its value in it, white on dark and black on light.
"""

import argparse

import numpy as np

import parnet as pn


def main():
    parser = argparse.ArgumentParser(description="A digit as numbers.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--number", type=int, default=0, help="which of the training pictures")
    chosen = parser.parse_args()
    source = pn.datasets.mnist if chosen.data == "mnist" else pn.datasets.digits
    (pictures, labels), _ = source.load_data()
    picture, label = pictures[chosen.number], labels[chosen.number]

    # One picture is a matrix: a tensor of two axes. All of them are a tensor of three.
    print(f"all pictures: {pictures.shape} {pictures.dtype}, from {pictures.min()} to {pictures.max()}")
    print(f"picture {chosen.number}: {picture.shape}, a {label}")
    for row in picture:
        print(" ".join(f"{value:3}" for value in row))

    # A dense network gets the rows one after the other, brought to 0..1: a tensor of one axis.
    row = (picture / pictures.max()).reshape(-1)
    print(f"as a row: {row.shape}, from {row.min():.1f} to {row.max():.1f}, mean {np.mean(row):.3f}")
    pn.viz.show_pixels(picture, path="pixels.png")
    print("written: pixels.png")


if __name__ == "__main__":
    main()
