"""The search model: documents -> passages -> index and vectors. Imports ..carried alone.

passages.py   what an answer is, and passages <-> bytes        (needed to run)
words.py      text -> words, character n-grams, keys           (needed to run)
index.py      BM25 over words and n-grams, numpy only          (needed to run)
features.py   query -> ids, weights and BM25, numpy only       (needed to run)
runner.py     a graph on one thread                            (needed to measure)
documents.py  a folder of text files -> passages               (needed to index anew)
fit.py        passages and queries -> weights; crops.py        (needed to train)
graph.py      weights -> ONNX, float32 or int8 tables          (needed to export)
twin.py       the slow twin that the graph is tested against   (needed to export)
store.py      weights <-> safetensors                          (needed to keep)
"""
