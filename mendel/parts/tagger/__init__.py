"""The span tagger: tokens -> features -> network -> chain -> spans. Imports ..carried alone.

spans.py      text -> tokens; spans <-> tags; what is right     (needed to run)
words.py      a word as strings and keys                       (needed to run)
clues.py      what a linear model weighs at a place, numpy only (needed to run)
features.py   tokens -> ids and flags, numpy only               (needed to run)
chain.py      emissions -> the best tags, numpy only            (needed to run)
values.py     written forms -> dates, numbers, amounts          (needed to run, kind extract)
fields.py     of which type a field of a record is             (needed to run, kind extract)
aliases.py    what else texts say for a choice                   (needed to run, kind extract)
records.py    records <-> spans; whether a record fits         (needed to run, kind extract)
runner.py     a graph and the three above -> answers            (needed to run)
network.py    the torch modules and the loss                    (needed to train)
fit.py        rows -> weights                                   (needed to train)
graph.py      weights -> ONNX, float32 or int8 tables           (needed to export)
twin.py       the slow twin that the graph is tested against    (needed to export)
store.py      weights <-> safetensors                           (needed to keep)
"""
