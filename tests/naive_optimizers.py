"""Slow, obvious optimizers in Keras's formulas, clipping and penalties, beside `naive.py`. Shares no code with parnet."""

from __future__ import annotations

import math

import numpy as np


class Rule:
    """w = rule.step(w, g); slots start at zero, steps count from 1."""

    def __init__(self, **numbers):
        self.t, self.slot, self.other = 0, 0.0, 0.0
        self.__dict__.update(numbers)

    def step(self, w, g):
        self.t += 1
        return self.update(np.asarray(w, np.float64), np.asarray(g, np.float64))


class SGD(Rule):
    def update(self, w, g):
        return w - self.lr * g


class Momentum(Rule):
    def update(self, w, g):
        self.slot = self.momentum * self.slot - self.lr * g
        return w + self.slot


class Nesterov(Rule):
    def update(self, w, g):
        self.slot = self.momentum * self.slot - self.lr * g
        return w + self.momentum * self.slot - self.lr * g


class RMSprop(Rule):
    momentum = 0.0

    def update(self, w, g):
        self.slot = self.rho * self.slot + (1 - self.rho) * g**2
        self.other = self.momentum * self.other + self.lr * g / np.sqrt(self.slot + self.epsilon)
        return w - self.other


class Adam(Rule):
    weight_decay = 0.0

    def update(self, w, g):
        w = w - self.lr * self.weight_decay * w
        self.slot = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.other = self.beta_2 * self.other + (1 - self.beta_2) * g**2
        alpha = self.lr * math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        return w - alpha * self.slot / (np.sqrt(self.other) + self.epsilon)


class Adagrad(Rule):
    start = 0.1

    def update(self, w, g):
        self.slot = (self.start if self.t == 1 else self.slot) + g**2
        return w - self.lr * g / np.sqrt(self.slot + self.epsilon)


def norm(*arrays):
    return math.sqrt(sum(float(v) ** 2 for a in arrays for v in np.ravel(a)))


def clip_norm(gradients, limit):
    """Each array alone."""
    return [g * (limit / norm(g)) if norm(g) > limit else g for g in gradients]


def clip_global_norm(gradients, limit):
    """All arrays together."""
    total = norm(*gradients)
    return [g * (limit / total) if total > limit else g for g in gradients]


def clip_value(gradients, limit):
    return [np.clip(g, -limit, limit) for g in gradients]


def penalty(w, l1, l2):
    """l1 sum |w| + l2 sum w^2 and its gradient."""
    w = np.asarray(w, np.float64)
    return sum(l1 * abs(v) + l2 * v * v for v in np.ravel(w)), l1 * np.sign(w) + 2 * l2 * w
