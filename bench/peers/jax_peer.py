"""JAX: the whole epoch as one compiled scan over the batches of a permutation, all data on the device."""

from __future__ import annotations

from serve import serve, start

EPSILON, MOMENTUM = 1e-3, 0.99


def network(net: str):
    """N1, N2 or N3 without the softmax.

    Returns:
        (weights, state, forward), forward(weights, state, x) -> (logits, new state).
    """
    import jax
    import jax.numpy as jnp
    from jax import lax

    widths = {"N1": (784, 100, 10), "N2": (784, 200, 100, 10), "N3": (64 * 13 * 13, 200, 100, 10)}[net]
    keys = jax.random.split(jax.random.PRNGKey(0), len(widths))
    pairs = list(zip(widths, widths[1:], keys, strict=False))
    dense = [{"w": jax.random.normal(k, (i, o)) * i**-0.5, "b": jnp.zeros(o)} for i, o, k in pairs]
    if net == "N1":

        def forward(weights, state, x):
            hidden = jax.nn.sigmoid(x @ weights[0]["w"] + weights[0]["b"])
            return hidden @ weights[1]["w"] + weights[1]["b"], state

        return dense, [], forward

    weights = [layer | {"gamma": jnp.ones(i), "beta": jnp.zeros(i)} for layer, i in zip(dense, widths, strict=False)]
    state = [{"mean": jnp.zeros(i), "variance": jnp.ones(i)} for i in widths[:-1]]

    def move(old, new):
        return MOMENTUM * old + (1 - MOMENTUM) * new

    if net == "N3":
        limit = (6 / (9 + 9 * 64)) ** 0.5
        kernel = jax.random.uniform(jax.random.PRNGKey(1), (3, 3, 1, 64), minval=-limit, maxval=limit)
        weights.append({"w": kernel, "b": jnp.zeros(64)})

    def filters(w, b, x):
        places = ("NHWC", "HWIO", "NHWC")
        x = jax.nn.relu(lax.conv_general_dilated(x.reshape(-1, 28, 28, 1), w, (1, 1), "VALID", dimension_numbers=places) + b)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(len(x), -1)

    def forward(weights, state, x):
        moved = []
        if net == "N3":
            *weights, first = weights
            x = filters(first["w"], first["b"], x)
        for index, (layer, average) in enumerate(zip(weights, state, strict=True)):
            mean = x.mean(0)
            variance = ((x - mean) ** 2).mean(0)
            x = (x - mean) * lax.rsqrt(variance + EPSILON) * layer["gamma"] + layer["beta"]
            x = x @ layer["w"] + layer["b"]
            x = jax.nn.selu(x) if index < 2 else x
            moved.append({"mean": move(average["mean"], mean), "variance": move(average["variance"], variance)})
        return x, moved

    return weights, state, forward


def main() -> None:
    """Serve epochs."""
    task = start()
    from functools import partial

    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    weights, state, forward = network(task.net)
    x, y = jnp.asarray(task.x), jnp.asarray(task.y.astype(np.int32))
    rng, kept = np.random.default_rng(0), [(weights, state)]

    def loss(weights, state, inputs, labels):
        logits, state = forward(weights, state, inputs)
        chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=1) - chosen).mean(), state

    @partial(jax.jit, donate_argnums=0)
    def run(carry, x, y, order):
        def step(carry, rows):
            weights, state = carry
            (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(weights, state, x[rows], y[rows])
            weights = jax.tree.map(lambda w, g: w - task.spec.rate * g, weights, gradients)
            return (weights, state), value

        return lax.scan(step, carry, order)

    def epoch(_):
        order = rng.permutation(len(x))[: task.steps * task.batch].reshape(task.steps, task.batch)
        kept[0], losses = run(kept[0], x, y, order.astype(np.int32))
        jax.block_until_ready((kept[0], losses))

    serve(f"jax {jax.__version__}", epoch, task.steps * task.batch)


if __name__ == "__main__":
    main()
