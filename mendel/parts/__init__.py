"""One file per operator; `text` is a package that an emitted project takes with it whole."""
