"""The text classifier: features -> network -> fit -> graph. Imports ..carried alone.

features.py   text -> ids and weights, numpy only       (needed to run)
network.py    the torch modules                         (needed to train)
fit.py        rows -> weights; loss.py                  (needed to train)
student.py    answers of many networks -> what one learns (needed to train)
prune.py      weights -> fewer of them                 (needed to train)
graph.py      weights -> ONNX, float32 or int8 tables   (needed to export)
runner.py     a graph on one thread                     (needed to measure)
store.py      weights <-> safetensors                   (needed to keep)
"""
