"""Scripts that put no space between words, as ranges of a regular expression."""

# Thai and Lao, Burmese, Khmer, Japanese, Chinese: marks included
ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
