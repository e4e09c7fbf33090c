"""What every model that travels needs; a project has it inside the package of its model.

chance.py    draws that can be repeated
deadline.py  fits that end in time
drawing.py   nodes and weights -> ONNX
fields.py    a recipe <-> what differs from its defaults
keeping.py   a model's files, and what its weights say of themselves
scripts.py   scripts without spaces between words
running.py   a graph on one thread, and how long it takes

Modules of a part import it by `..carried`, which a project's copy has as `.carried`.
"""
