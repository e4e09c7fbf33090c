"""Few labels: what unlabelled text, label names and a pretrained encoder add to them.

teach.py    labelled rows + unlabelled texts -> rows with shares, for the usual fit
task.py     what it starts from, checked
spread.py   how labels reach unlabelled rows: softmax regression, a graph of neighbours
view.py     texts to vectors without any pretrained weights (TF-IDF, SVD)
ask.py      which texts a person should label next
"""
