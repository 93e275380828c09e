"""Slow, obvious optimizers in Keras's formulas, clipping and penalties, beside `naive.py`. Shares no code with parnet."""

from __future__ import annotations

import math

import numpy as np


class Rule:
    """w = rule.step(w, g); slots start at zero, steps count from 1. Weights decay before the update, as in Keras."""

    weight_decay = 0.0

    def __init__(self, **numbers):
        self.t, self.slot, self.other, self.third = 0, 0.0, 0.0, 0.0
        self.__dict__.update(numbers)

    def step(self, w, g):
        self.t += 1
        w = np.asarray(w, np.float64)
        return self.update(w - self.lr * self.weight_decay * w, np.asarray(g, np.float64))


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
    def update(self, w, g):
        self.slot = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.other = self.beta_2 * self.other + (1 - self.beta_2) * g**2
        alpha = self.lr * math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        return w - alpha * self.slot / (np.sqrt(self.other) + self.epsilon)


class AMSGrad(Rule):
    def update(self, w, g):
        self.slot = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.other = self.beta_2 * self.other + (1 - self.beta_2) * g**2
        self.third = np.maximum(self.third, self.other)
        alpha = self.lr * math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        return w - alpha * self.slot / (np.sqrt(self.third) + self.epsilon)


class Adamax(Rule):
    def update(self, w, g):
        self.slot = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.other = np.maximum(self.beta_2 * self.other, abs(g))
        return w - self.lr / (1 - self.beta_1**self.t) * self.slot / (self.other + self.epsilon)


class Nadam(Rule):
    """epsilon is added to the root before its correction, as in Adam."""

    def momentum(self, t):
        return self.beta_1 * (1 - 0.5 * 0.96**t)

    def update(self, w, g):
        self.slot = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.other = self.beta_2 * self.other + (1 - self.beta_2) * g**2
        now, following = self.momentum(self.t), self.momentum(self.t + 1)
        product = math.prod(self.momentum(t) for t in range(1, self.t + 1))
        ahead = following * self.slot / (1 - product * following) + (1 - now) * g / (1 - product)
        return w - self.lr * math.sqrt(1 - self.beta_2**self.t) * ahead / (np.sqrt(self.other) + self.epsilon)


class Adadelta(Rule):
    def update(self, w, g):
        self.slot = self.rho * self.slot + (1 - self.rho) * g**2
        step = np.sqrt(self.other + self.epsilon) / np.sqrt(self.slot + self.epsilon) * g
        self.other = self.rho * self.other + (1 - self.rho) * step**2
        return w - self.lr * step


class Lion(Rule):
    def update(self, w, g):
        way = self.beta_1 * self.slot + (1 - self.beta_1) * g
        self.slot = self.beta_2 * self.slot + (1 - self.beta_2) * g
        return w - self.lr * np.sign(way)


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
