"""What every model that travels needs; a project has it inside the package of its model.

drawing.py   nodes and weights -> ONNX
fields.py    a recipe <-> what differs from its defaults
keeping.py   what a safetensors file says of itself
scripts.py   scripts without spaces between words
running.py   a graph on one thread, and how long it takes

Modules of a part import it by `..carried`, which a project's copy has as `.carried`.
"""
