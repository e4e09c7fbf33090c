"""The small language model: bytes -> attention -> the next byte. Imports ..carried alone.

features.py   text -> bytes and the empty state, numpy only     (needed to run)
sampling.py   logits -> a byte, by counted random numbers       (needed to run)
runner.py     a graph that scores and writes texts              (needed to run)
recipe.py     the dials
network.py    the torch modules, as the engine's are            (needed to train)
fit.py        texts -> weights                                  (needed to train)
graph.py      weights -> ONNX, float32 or int8 matrices         (needed to export)
store.py      weights <-> safetensors                           (needed to keep)
"""
