"""A small training that the tests of the parameter server share, and faults for its workers."""

from __future__ import annotations

import json

import numpy as np
from nets import digest

import parnet as pn
from parnet import layers as L
from parnet.executors.faults import VARIABLE

ROWS, BATCH, EPOCHS = 97, 16, 2  # seven steps an epoch, the last of one row
PHASES = ("rendezvous", "compute", "push", "pushed", "apply")
FAULTY = 1  # the worker that comes to grief
AT = 3  # in this batch of the first epoch


def data():
    rng = np.random.default_rng(7)
    return rng.normal(size=(ROWS, 12)).astype(np.float32), rng.integers(0, 4, ROWS)


def model(**norm):
    """norm: arguments of the batch normalisation."""
    layers = [L.Dense(24, activation="relu", input_shape=(12,)), L.BatchNormalization(**norm), L.Dropout(0.2)]
    net = pn.Sequential([*layers, L.Dense(4, activation="softmax")], seed=5)
    net.compile(pn.optimizers.Adam(0.01, global_clipnorm=1.0), "sparse_categorical_crossentropy", ["accuracy"])
    return net


def fitted(strategy, net=None, **arguments):
    """A trained model and its history."""
    net = net or model()
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 0} | arguments
    return net, net.fit(*data(), strategy=strategy, **arguments)


def server(workers=2, shards=4, **arguments):
    """A parameter server that may have more workers than the machine has cores."""
    arguments = {"threads_per_worker": 1, "oversubscribe": True} | arguments
    return pn.strategy.ParameterServer(workers, shards=shards, **arguments)


def bits_of(strategy):
    """What `fitted` leaves behind."""
    net, history = fitted(strategy)
    return digest(net), history.history


def plan_fault(monkeypatch, phase, how, *, worker=FAULTY, once=None):
    """Have a worker come to grief; `once` is a path that marks that it has."""
    fault = {"worker": worker, "phase": phase, "batch": AT, "how": how} | ({"once": str(once)} if once else {})
    monkeypatch.setenv(VARIABLE, json.dumps(fault))
