"""Keras on TensorFlow: the whole epoch in one hand-written tf.function. `fit` takes several times longer."""

from __future__ import annotations

import os

from serve import serve, start

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"


def build(net: str):
    """N1, N2 or N3, softmax at the end."""
    from keras import Sequential, layers

    if net == "N1":
        parts = [layers.Dense(100, activation="sigmoid")]
    else:
        # the samples come as rows; seen as images they are not copied
        image = [layers.Reshape((28, 28, 1)), layers.Conv2D(64, 3, activation="relu")]
        image += [layers.MaxPooling2D(2), layers.Flatten()]
        parts = [*(image if net == "N3" else []), layers.BatchNormalization()]
        for units in (200, 100):
            dense = layers.Dense(units, activation="selu", kernel_initializer="lecun_normal")
            parts += [dense, layers.BatchNormalization()]
    return Sequential([layers.Input((784,)), *parts, layers.Dense(10, activation="softmax")])


def main() -> None:
    """Serve epochs."""
    task = start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    tf.config.threading.set_inter_op_parallelism_threads(task.threads)
    import keras

    keras.utils.set_random_seed(0)
    model, rule = build(task.net), keras.optimizers.SGD(task.spec.rate)
    x, y = tf.constant(task.x), tf.constant(task.y)
    loss = keras.losses.SparseCategoricalCrossentropy()
    rule.build(model.trainable_variables)

    @tf.function
    def step(inputs, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(inputs, training=True))
        rule.apply(tape.gradient(value, model.trainable_variables))
        return value

    @tf.function
    def run(order):
        for at in tf.range(task.steps):
            rows = tf.slice(order, [at * task.batch], [task.batch])
            step(tf.gather(x, rows), tf.gather(y, rows))

    def epoch(_):
        run(tf.random.shuffle(tf.range(len(task.x))))

    serve(f"keras {keras.__version__} on tensorflow {tf.__version__}", epoch, task.steps * task.batch)


if __name__ == "__main__":
    main()
